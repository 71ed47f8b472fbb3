"""The bytes of a backup file: a header in clear, then numbered parts of one libsodium secretstream. No file, no clock.

    header  "consent-ledger backup\n" ‖ u8 1 ‖ u32 master version ‖ salt[16] ‖ H(sites)[32] ‖ key check[16] ‖ stream[24]
    part    u32 number ‖ u32 length ‖ ciphertext[length]

The key is derived from the master secret of that version and the salt; the key check tells another secret from a
damaged file. Header, number and length are associated data of every part (crypto_secretstream_xchacha20poly1305), so
nothing can be altered, left out, put in another order or added. The tag PUSH ends a group, FINAL the stream: what ends
without it is cut short.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from hashlib import blake2b
from typing import NamedTuple

from nacl import bindings
from nacl.exceptions import CryptoError

from ledger.config import BACKUP_PART_BYTES
from ledger.core.errors import ConfigInvalid, Malformed

MAGIC = b"consent-ledger backup\n"
VERSION = 1
SALT_BYTES = 16
_CHECK_BYTES = 16
_DIGEST_BYTES = 32
_STREAM_BYTES = bindings.crypto_secretstream_xchacha20poly1305_HEADERBYTES
_SEAL_BYTES = bindings.crypto_secretstream_xchacha20poly1305_ABYTES
HEADER_BYTES = len(MAGIC) + 1 + 4 + SALT_BYTES + _DIGEST_BYTES + _CHECK_BYTES + _STREAM_BYTES
_FRAME_BYTES = 8
_MESSAGE = bindings.crypto_secretstream_xchacha20poly1305_TAG_MESSAGE
_PUSH = bindings.crypto_secretstream_xchacha20poly1305_TAG_PUSH
_FINAL = bindings.crypto_secretstream_xchacha20poly1305_TAG_FINAL

Read = Callable[[int], bytes]
"""So many bytes, fewer only at the end."""


class NotThisSecret(ConfigInvalid):
    """The backup was sealed under a master secret that is not at hand."""


class Damaged(Malformed):
    """A backup that is not as it was written: cut short, altered, in another order, or with something behind it."""


class Header(NamedTuple):
    """What a backup says in clear. `sites` is SHA-256 of the origins in it, sorted, each with a line feed."""

    master_version: int
    salt: bytes
    sites: bytes
    check: bytes
    stream: bytes

    def encode(self) -> bytes:
        version = self.master_version.to_bytes(4, "big")
        return MAGIC + bytes([VERSION]) + version + self.salt + self.sites + self.check + self.stream


def parse_header(data: bytes) -> Header:
    """`Damaged` unless it is the header of a backup of this version."""
    if not data.startswith(MAGIC):
        raise Damaged("this is no backup of a consent ledger")
    if len(data) < HEADER_BYTES:
        raise Damaged("the backup is cut short in its first line: take another copy of it")
    at = len(MAGIC)
    if data[at] != VERSION:
        raise Damaged(f"the backup has format {data[at]}, and this release reads {VERSION}: take the release of it")
    master_version = int.from_bytes(data[at + 1 : at + 5], "big")
    parts, at = [], at + 5
    for size in (SALT_BYTES, _DIGEST_BYTES, _CHECK_BYTES, _STREAM_BYTES):
        parts.append(data[at : at + size])
        at += size
    return Header(master_version, *parts)


class Sealer:
    """Writes a backup: bytes go in, `write` gets sealed parts. Nothing is whole before `finish`."""

    def __init__(
        self, write: Callable[[bytes], object], secret: bytes, master_version: int, salt: bytes, sites: bytes
    ) -> None:
        key = _key(secret, salt)
        self._state = bindings.crypto_secretstream_xchacha20poly1305_state()
        stream = bindings.crypto_secretstream_xchacha20poly1305_init_push(self._state, key)
        self.header = Header(master_version, salt, sites, _check(key), stream)
        self._bound = self.header.encode()
        self._write = write
        self._number = 0
        self._waiting = bytearray()
        write(self._bound)

    def add(self, data: bytes) -> None:
        """Bytes of the group under way."""
        self._waiting += data
        while len(self._waiting) > BACKUP_PART_BYTES:
            self._seal(bytes(self._waiting[:BACKUP_PART_BYTES]), _MESSAGE)
            del self._waiting[:BACKUP_PART_BYTES]

    def end_group(self) -> None:
        """What was added until now can be read without what follows."""
        self._flush(_PUSH)

    def finish(self) -> None:
        """Nothing follows."""
        self._flush(_FINAL)

    def _flush(self, tag: int) -> None:
        waiting = bytes(self._waiting)
        self._waiting.clear()
        self._seal(waiting, tag)

    def _seal(self, data: bytes, tag: int) -> None:
        frame = self._number.to_bytes(4, "big") + (len(data) + _SEAL_BYTES).to_bytes(4, "big")
        sealed = bindings.crypto_secretstream_xchacha20poly1305_push(self._state, data, self._bound + frame, tag)
        self._write(frame + sealed)
        self._number += 1


def unseal(read: Read, secrets: Mapping[int, bytes]) -> Iterator[bytes]:
    """What was added, a part at a time, each after it was authenticated; `secrets` are master secrets by version.

    `Damaged` or `NotThisSecret` says what is wrong. Only who came to the end knows that nothing is missing.
    """
    header = parse_header(read(HEADER_BYTES))
    secret = secrets.get(header.master_version)
    if secret is None:
        here = " and ".join(str(version) for version in sorted(secrets))
        raise NotThisSecret(
            f"the backup was sealed under version {header.master_version} of the master secret, and here is {here}: "
            "give the secret of that time as LEDGER_MASTER_SECRET, and its number as LEDGER_MASTER_KEY_VERSION"
        )
    key = _key(secret, header.salt)
    if _check(key) != header.check:
        raise NotThisSecret(
            "this master secret does not open the backup: it was sealed under another one, or its header was altered"
        )
    state = bindings.crypto_secretstream_xchacha20poly1305_state()
    bindings.crypto_secretstream_xchacha20poly1305_init_pull(state, header.stream, key)
    bound, expected = header.encode(), 0
    while True:
        data, tag = _part(read, state, bound, expected)
        expected += 1
        yield data
        if tag == _FINAL:
            break
    if read(1):
        raise Damaged("something follows behind the end of the backup: take another copy of it")


def _part(
    read: Read, state: bindings.crypto_secretstream_xchacha20poly1305_state, bound: bytes, expected: int
) -> tuple[bytes, int]:
    frame = read(_FRAME_BYTES)
    if len(frame) < _FRAME_BYTES:
        raise Damaged(f"the backup is cut short behind part {expected}: take another copy of it")
    number, length = int.from_bytes(frame[:4], "big"), int.from_bytes(frame[4:], "big")
    if not _SEAL_BYTES <= length <= BACKUP_PART_BYTES + _SEAL_BYTES:
        raise Damaged(f"the backup was altered at part {expected}: it gives a length that no part has")
    sealed = read(length)
    if len(sealed) < length:
        raise Damaged(f"the backup is cut short in part {expected}: take another copy of it")
    if number != expected:
        raise Damaged(
            f"part {number} of the backup comes where part {expected} belongs: its parts were put out of order"
        )
    try:
        data, tag = bindings.crypto_secretstream_xchacha20poly1305_pull(state, sealed, bound + frame)
    except CryptoError:
        raise Damaged(f"the backup was altered: part {expected} is not as it was written") from None
    return data, tag


def _key(secret: bytes, salt: bytes) -> bytes:
    return blake2b(b"", key=secret, salt=salt, digest_size=32, person=b"ledger backup").digest()


def _check(key: bytes) -> bytes:
    return blake2b(b"", key=key, digest_size=_CHECK_BYTES, person=b"backup key check").digest()
