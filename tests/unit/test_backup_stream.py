"""A backup's bytes: what was written comes out, and whatever was done to it is refused, each by its own words."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from ledger import cli
from ledger.backup.archive import ABOUT, DUMP, About, Packer, SiteInside, authenticate, read_about, sites_digest, unpack
from ledger.backup.stream import HEADER_BYTES, Damaged, NotThisSecret, Sealer, unseal
from ledger.config import BACKUP_PART_BYTES
from ledger.core.encoding import encode_base64
from ledger.core.errors import ConfigInvalid, LedgerError

SECRET, OTHER = bytes(range(32)), bytes(32)
SALT = b"salt of a backup"
ORIGIN = "ledger.test/shop.example.com"
ABOUT_IT = About(1, "0.1.0", "18", {"0001": "aa"}, (SiteInside("shop.example.com", ORIGIN, 3, "", 1, 0),))


def sealed(*groups: bytes) -> bytes:
    file = io.BytesIO()
    sealer = Sealer(file.write, SECRET, 1, SALT, sites_digest([ORIGIN]))
    for group in groups[:-1]:
        sealer.add(group)
        sealer.end_group()
    sealer.add(groups[-1])
    sealer.finish()
    return file.getvalue()


def opened(data: bytes, secrets: dict[int, bytes] | None = None) -> bytes:
    return b"".join(unseal(io.BytesIO(data).read, secrets or {1: SECRET}))


def frames(data: bytes) -> list[bytes]:
    """The parts of a backup, each with its number and length."""
    parts, at = [], HEADER_BYTES
    while at < len(data):
        end = at + 8 + int.from_bytes(data[at + 4 : at + 8], "big")
        parts.append(data[at:end])
        at = end
    return parts


LONG = bytes(range(256)) * (BACKUP_PART_BYTES // 100)
WHOLE = sealed(LONG, b"end")


def test_what_was_sealed_comes_out_in_parts_of_a_bounded_size() -> None:
    assert opened(WHOLE) == LONG + b"end"
    assert max(len(part) for part in frames(WHOLE)) <= BACKUP_PART_BYTES + 17 + 8
    assert opened(sealed(b"")) == b""


def test_nothing_of_it_can_be_read_without_the_secret() -> None:
    assert b"end of the story" not in sealed(b"end of the story")
    assert WHOLE[HEADER_BYTES:] != sealed(LONG, b"end")[HEADER_BYTES:], "two backups of the same share no bytes"


def with_renumbered(data: bytes) -> bytes:
    """Parts exchanged by somebody who gives each the number of its place."""
    first, second, *rest = frames(data)
    return data[:HEADER_BYTES] + first[:4] + second[4:] + second[:4] + first[4:] + b"".join(rest)


WRONGED: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "no backup": (lambda data: b"PGDMP" + data, "no backup of a consent ledger"),
    "a header cut short": (lambda data: data[: HEADER_BYTES - 1], "cut short in its first line"),
    "another format": (lambda data: data[:22] + b"\x02" + data[23:], "has format 2, and this release reads 1"),
    "another salt": (lambda data: data[:27] + b"X" + data[28:], "does not open the backup"),
    "another list of sites": (lambda data: data[:43] + bytes(32) + data[75:], "part 0 is not as it was written"),
    "another stream": (
        lambda data: data[: HEADER_BYTES - 1] + bytes([data[HEADER_BYTES - 1] ^ 1]) + data[HEADER_BYTES:],
        "part 0 is not as it was written",
    ),
    "cut short within a part": (lambda data: data[:-1], "cut short in part 3"),
    "cut short between parts": (lambda data: data[: -len(frames(data)[-1])], "cut short behind part 3"),
    "nothing but a header": (lambda data: data[:HEADER_BYTES], "cut short behind part 0"),
    "a bit": (lambda data: data[:-1] + bytes([data[-1] ^ 1]), "part 3 is not as it was written"),
    "a length": (lambda data: data[: HEADER_BYTES + 4] + b"\xff" + data[HEADER_BYTES + 5 :], "a length that no part"),
    "out of order": (
        lambda data: data[:HEADER_BYTES] + b"".join(sorted(frames(data), reverse=True)),
        "part 3 of the backup comes where part 0 belongs",
    ),
    "out of order and renumbered": (with_renumbered, "part 0 is not as it was written"),
    "a part left out": (
        lambda data: data[:HEADER_BYTES] + b"".join(frames(data)[1:]),
        "part 1 of the backup comes where part 0 belongs",
    ),
    "a part twice": (lambda data: data + frames(data)[-1], "something follows behind the end"),
    "bytes behind it": (lambda data: data + b"\0", "something follows behind the end"),
}


@pytest.mark.parametrize("wronged", WRONGED)
def test_it_is_refused_in_its_own_words(wronged: str) -> None:
    change, words = WRONGED[wronged]
    with pytest.raises(LedgerError, match=words):
        opened(change(WHOLE))


def test_a_backup_of_another_secret_is_told_from_a_damaged_one() -> None:
    with pytest.raises(NotThisSecret, match="sealed under another one"):
        opened(WHOLE, {1: OTHER})
    with pytest.raises(ConfigInvalid, match="version 1 of the master secret, and here is 2 and 3"):
        opened(WHOLE, {2: SECRET, 3: OTHER})


def packed(*members: tuple[str, list[bytes]]) -> bytes:
    file = io.BytesIO()
    packer = Packer(Sealer(file.write, SECRET, 1, SALT, sites_digest([ORIGIN])))
    for name, pieces in members:
        packer.add_pieces(name, iter(pieces))
    packer.finish()
    return file.getvalue()


def about() -> tuple[str, list[bytes]]:
    return ABOUT, [msgspec.json.encode(ABOUT_IT)]


def test_members_come_out_as_they_went_in() -> None:
    dump = [bytes([n]) * 50_000 for n in range(10)]
    data = packed(about(), ("keys/shop.example.com/ingest-1.key", [b"key"]), (DUMP, dump), ("empty", []))
    found: dict[str, bytes] = {}
    for piece in unpack(io.BytesIO(data).read, {1: SECRET}):
        found[piece.name] = found.get(piece.name, b"") + piece.data
    assert found[DUMP] == b"".join(dump)
    assert (found["keys/shop.example.com/ingest-1.key"], found["empty"]) == (b"key", b"")
    seen: list[int] = []
    assert authenticate(io.BytesIO(data).read, {1: SECRET}, seen.append) == ABOUT_IT
    assert seen[-1] > 500_000


def test_what_it_is_of_is_read_without_the_rest() -> None:
    data = packed(about(), (DUMP, [bytes(50_000)] * 40))
    file = io.BytesIO(data)
    assert read_about(file.read, {1: SECRET}) == ABOUT_IT
    assert file.tell() < 2_000


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"\0\0", "does not begin with what it is of"),
        (b"\0\x05../aa\0\0\0\0\0\0", "under a name that none has"),
        (b"\0\x06/etc/a\0\0\0\0\0\0", "under a name that none has"),
        (b"\0\x0aabout.json\0\0\0\0\0\0", "does not begin with what it is of"),
        (b"\0\x0aabout.json\xff\0\0\0", "pieces that are too large"),
        (b"\0\x0aabout.json\0\0\0\x09", "ends within what it holds"),
        (b"\0\x0aabout.json\0\0\0\0\0\x0dmanifest.json\0\0\0\0\0\0", "list of what is in it cannot be read"),
        (
            b"\0\x0aabout.json\0\0\0\0\0\x0dmanifest.json\0\0\0\x0e" + b'{"members":[]}' + b"\0\0\0\0\0\0",
            "does not hold what its list says",
        ),
        (b"\0\0more", "holds more than it tells"),
    ],
    ids=["empty", "up", "root", "no list", "too large", "cut", "no json", "another list", "more"],
)
def test_what_a_backup_holds_is_judged_too(raw: bytes, words: str) -> None:
    with pytest.raises(Damaged, match=words):
        list(unpack(io.BytesIO(sealed(raw)).read, {1: SECRET}))


def test_a_backup_of_before_the_master_secret_was_replaced_is_checked_with_the_old_one(tmp_path: Path) -> None:
    file, old = tmp_path / "x.backup", tmp_path / "old"
    file.write_bytes(packed(about(), (DUMP, [b"rows"])))
    old.write_text(encode_base64(SECRET) + "\n")
    environ = {"LEDGER_MASTER_SECRET": encode_base64(OTHER), "LEDGER_MASTER_KEY_VERSION": "2"}
    refused = CliRunner().invoke(cli.main, ["backup", "check", str(file)], env=environ)
    assert (refused.exit_code, "under version 1 of the master secret" in refused.output) == (1, True), refused.output
    checked = CliRunner().invoke(cli.main, ["backup", "check", str(file), "--old-secret", str(old)], env=environ)
    assert (checked.exit_code, "whole, of 1970" in checked.output) == (0, True), checked.output
