"""What lies in a backup: named members one behind the other, the first of which tells what it is of, the last what
there was. It knows nothing of databases, and writes no file under a name that it reads.

    member  u16 length ‖ name ‖ pieces (u32 length ‖ bytes) ‖ u32 0
    end     u16 0
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from hashlib import sha256
from typing import NamedTuple

import msgspec

from ledger.backup.stream import Damaged, Read, Sealer, unseal
from ledger.config import BACKUP_MAX_MEMBERS, BACKUP_MEMBER_MAX_BYTES, BACKUP_PART_BYTES
from ledger.core.merkle import HASH_BYTES

ABOUT, MANIFEST, DUMP = "about.json", "manifest.json", "database.dump"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,254}")


class SiteInside(msgspec.Struct, frozen=True, rename="camel"):
    """One log of a backup: its entries, the newest checkpoint (with cosignatures; empty: none), how many data keys were
    made, and how many of them were destroyed."""

    site: str
    origin: str
    size: int
    checkpoint: str
    data_keys: int
    destroyed: int


class About(msgspec.Struct, frozen=True, rename="camel"):
    """The first member. `taken_ms` is the time of the snapshot; `migrations` are names and hashes of the schema."""

    taken_ms: int
    release: str
    postgres: str
    migrations: dict[str, str]
    sites: tuple[SiteInside, ...]


class Inside(msgspec.Struct, frozen=True):
    """One member as the manifest has it. `sha256` is in hex."""

    name: str
    size: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True):
    """The last member: all that came before it, in order."""

    members: tuple[Inside, ...]


class Piece(NamedTuple):
    """Some bytes of a member; none: the member ends."""

    name: str
    data: bytes


class Packer:
    """Writes members through a sealer."""

    def __init__(self, sealer: Sealer) -> None:
        self._sealer = sealer
        self._members: list[Inside] = []

    def add(self, name: str, data: bytes) -> None:
        """A whole member."""
        with_pieces = [data[at : at + BACKUP_PART_BYTES] for at in range(0, len(data), BACKUP_PART_BYTES)]
        self.add_pieces(name, iter(with_pieces))

    def add_pieces(self, name: str, pieces: Iterator[bytes]) -> None:
        """A member of unknown size; no piece is empty."""
        digest, size = sha256(), 0
        self._sealer.add(len(name).to_bytes(2, "big") + name.encode("ascii"))
        for piece in pieces:
            digest.update(piece)
            size += len(piece)
            self._sealer.add(len(piece).to_bytes(4, "big"))
            self._sealer.add(piece)
        self._sealer.add(bytes(4))
        self._sealer.end_group()
        self._members.append(Inside(name, size, digest.hexdigest()))

    def finish(self) -> None:
        """The manifest, and the end."""
        self.add(MANIFEST, msgspec.json.encode(Manifest(tuple(self._members))))
        self._sealer.add(bytes(2))
        self._sealer.finish()


def unpack(read: Read, secrets: Mapping[int, bytes]) -> Iterator[Piece]:
    """Members in order, a piece at a time. `Damaged` where something is missing, or differs from the manifest."""
    source = _Source(unseal(read, secrets))
    found: list[Inside] = []
    manifest = bytearray()
    while length := int.from_bytes(source.take(2), "big"):
        name = source.take(length).decode("ascii", "replace")
        if _NAME.fullmatch(name) is None or ".." in name or len(found) >= BACKUP_MAX_MEMBERS:
            raise Damaged("the backup holds something under a name that none has")
        digest, size = sha256(), 0
        while piece := int.from_bytes(source.take(4), "big"):
            if piece > BACKUP_PART_BYTES:
                raise Damaged(f"{name} in the backup is in pieces that are too large")
            data = source.take(piece)
            digest.update(data)
            size += piece
            if name == MANIFEST:
                manifest += data
            if name != DUMP and size > BACKUP_MEMBER_MAX_BYTES:
                raise Damaged(f"{name} in the backup is larger than {BACKUP_MEMBER_MAX_BYTES} bytes")
            yield Piece(name, data)
        yield Piece(name, b"")
        found.append(Inside(name, size, digest.hexdigest()))
    source.end()
    if not found or found[0].name != ABOUT or found[-1].name != MANIFEST:
        raise Damaged("the backup does not begin with what it is of, and end with what is in it")
    try:
        listed = msgspec.json.decode(manifest, type=Manifest).members
    except msgspec.MsgspecError as error:
        raise Damaged("the backup's list of what is in it cannot be read") from error
    if listed != tuple(found[:-1]):
        raise Damaged("the backup does not hold what its list says")


def read_about(read: Read, secrets: Mapping[int, bytes]) -> About:
    """The first member alone: what follows is not looked at."""
    data = bytearray()
    for piece in unpack(read, secrets):
        if piece.name != ABOUT:
            break
        if not piece.data:
            return parse_about(bytes(data))
        data += piece.data
    raise Damaged("the backup does not say what it is of")


def parse_about(data: bytes) -> About:
    try:
        return msgspec.json.decode(data, type=About)
    except msgspec.MsgspecError as error:
        raise Damaged("what the backup says of itself cannot be read") from error


def authenticate(read: Read, secrets: Mapping[int, bytes], progress: Callable[[int], object]) -> About:
    """The whole backup, to its end: `Damaged` or `NotThisSecret` if it is not as it was written.

    `progress` is told the bytes of the members that were read.
    """
    about = bytearray()
    done = 0
    for piece in unpack(read, secrets):
        if piece.name == ABOUT:
            about += piece.data
        done += len(piece.data)
        progress(done)
    return parse_about(bytes(about))


def sites_digest(origins: list[str]) -> bytes:
    """What the header says of the logs inside."""
    digest = sha256("".join(f"{origin}\n" for origin in sorted(origins)).encode()).digest()
    assert len(digest) == HASH_BYTES
    return digest


class _Source:
    """Bytes out of parts."""

    def __init__(self, parts: Iterator[bytes]) -> None:
        self._parts = parts
        self._data = memoryview(b"")

    def take(self, count: int) -> bytes:
        taken = bytearray(self._data[:count])
        self._data = self._data[count:]
        while len(taken) < count:
            part = next(self._parts, None)
            if part is None:
                raise Damaged("the backup ends within what it holds")
            missing = count - len(taken)
            taken += part[:missing]
            self._data = memoryview(part)[missing:]
        return bytes(taken)

    def end(self) -> None:
        """Read to the end, which authenticates it."""
        if len(self._data) or any(self._parts):
            raise Damaged("the backup holds more than it tells")
