"""What lies in a directory of backups: names by time, journals that survive a torn line, and how old it all is."""

from __future__ import annotations

from pathlib import Path

import pytest

from ledger.backup.age import age_of
from ledger.backup.folder import ERASURES, KEYRING, alone_in, kept_in, name_of, prune
from ledger.backup.journal import LEAF_BYTES, ActLine, ErasureLine, Journal
from ledger.backup.stream import Damaged
from ledger.backup.tail import _longest
from ledger.core.duration import parse_keep
from ledger.core.entry import Entry, Kind, encode, encode_seqs
from ledger.core.errors import ConfigInvalid
from ledger.core.merkle import leaf_hash
from ledger.durable import replace

NOON_MS = 1_790_000_000_123
DAY_MS = 24 * 3_600_000


def backups(directory: Path, *days: int) -> None:
    for day in days:
        (directory / name_of(NOON_MS - day * DAY_MS)).write_bytes(b"")


def test_a_backups_name_tells_its_time_and_other_files_are_none(tmp_path: Path) -> None:
    assert name_of(NOON_MS) == "20260921T141320.123Z.backup"
    backups(tmp_path, 1, 0)
    for other in ("keyring", "x.backup", f"{name_of(NOON_MS)}.partial", "20269921T141320.123Z.backup"):
        (tmp_path / other).write_bytes(b"")
    assert [kept.taken_ms for kept in kept_in(tmp_path)] == [NOON_MS - DAY_MS, NOON_MS]
    assert kept_in(tmp_path / "nowhere") == []


def test_pruning_takes_what_is_older_and_never_the_newest(tmp_path: Path) -> None:
    backups(tmp_path, 40, 36, 34, 2)
    went = prune(tmp_path, parse_keep("35d"), NOON_MS)
    assert [path.name for path in went] == [name_of(NOON_MS - 40 * DAY_MS), name_of(NOON_MS - 36 * DAY_MS)]
    assert prune(tmp_path, parse_keep("1h"), NOON_MS + 400 * DAY_MS) != []
    assert len(kept_in(tmp_path)) == 1


@pytest.mark.parametrize("text", ["35", "d", "0d", "-1d", "1.5d", "35 d", "1y", "100000d"])
def test_what_is_to_be_kept_is_a_period(text: str) -> None:
    with pytest.raises(ConfigInvalid, match="35d"):
        parse_keep(text)


def test_two_backups_do_not_run_into_each_other_and_a_broken_one_is_cleared_away(tmp_path: Path) -> None:
    (tmp_path / f"{name_of(1)}.partial").write_bytes(b"half")
    with alone_in(tmp_path):
        assert list(tmp_path.iterdir()) == []
        with pytest.raises(ConfigInvalid, match="another backup"), alone_in(tmp_path):
            pass


def test_a_small_file_is_replaced_whole_and_for_its_owner_alone(tmp_path: Path) -> None:
    replace(tmp_path / "keyring", b"one")
    replace(tmp_path / "keyring", b"two")
    assert [path.name for path in tmp_path.iterdir()] == ["keyring"]
    assert (tmp_path / "keyring").read_bytes() == b"two"
    assert (tmp_path / "keyring").stat().st_mode & 0o777 == 0o600


def entry(seq: int, prev: bytes = bytes(32), kind: Kind = Kind.EVENT, public: bytes = b"") -> bytes:
    return encode(Entry(seq, 1_000 + seq, prev, kind, bytes(32), bytes(32), bytes(64), public))


def erasure(seq: int) -> ErasureLine:
    seqs = encode_seqs([1, 2])
    return ErasureLine(
        "o/shop.example.com", seq, entry(seq, kind=Kind.ERASURE, public=seqs), b"sealed", b"leaf...1leaf...2"
    )


def test_a_journal_gives_back_what_was_appended(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "erasures", ErasureLine)
    assert list(journal.read()) == []
    journal.append([erasure(3)])
    journal.append([erasure(4), erasure(5)])
    assert list(journal.read()) == [erasure(3), erasure(4), erasure(5)]
    assert erasure(3).positions() == [(1, b"leaf...1"), (2, b"leaf...2")]
    journal.keep(lambda line: line.seq > 3)
    assert [line.seq for line in journal.read()] == [4, 5]


@pytest.mark.parametrize("left", [1, 10, 200])
def test_a_torn_last_line_is_dropped_and_written_over(tmp_path: Path, left: int) -> None:
    journal = Journal(tmp_path / "erasures", ErasureLine)
    journal.append([erasure(3)])
    whole = journal.path.read_bytes()
    journal.append([erasure(4)])
    journal.path.write_bytes(journal.path.read_bytes()[: len(whole) + left])
    assert [line.seq for line in journal.read()] == [3]
    journal.append([erasure(4)])
    assert [line.seq for line in journal.read()] == [3, 4]


def test_a_torn_first_line_is_dropped_too(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "erasures", ErasureLine)
    journal.path.write_bytes(b"0123 torn")
    journal.append([erasure(4)])
    assert [line.seq for line in journal.read()] == [4]


def test_any_other_damaged_line_is_told_and_not_passed_over(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "erasures", ErasureLine)
    journal.append([erasure(3), erasure(4), erasure(5)])
    lines = journal.path.read_bytes().splitlines(keepends=True)
    journal.path.write_bytes(lines[0] + lines[1].replace(b'"seq":4', b'"seq":9') + lines[2])
    with pytest.raises(Damaged, match="line 2 of"):
        list(journal.read())


def test_a_line_that_does_not_tell_its_events_apart_is_refused() -> None:
    line = ErasureLine("o/s.example.com", 3, erasure(3).entry, b"", bytes(LEAF_BYTES))
    with pytest.raises(Damaged, match="entry 3 in the journal"):
        line.positions()


def chain(first: int, prev: bytes, *millis: int) -> list[ActLine]:
    lines = []
    for at, _ in enumerate(millis):
        made = encode(Entry(first + at, millis[at], prev, Kind.EVENT, bytes(32), bytes(32), bytes(64), b""))
        lines.append(ActLine("o/s", first + at, made, None, None, None))
        prev = leaf_hash(made)
    return lines


def test_of_two_continuations_of_an_administrative_log_the_longest_from_the_tip_is_taken() -> None:
    tip = bytes(31) + b"t"
    short, long = chain(5, tip, 1, 2), chain(5, tip, 3, 4, 5)
    others = chain(5, bytes(31) + b"x", 1, 2, 3, 4)
    assert _longest([*others, *short, *long], 5, tip) == long
    assert _longest([*others, *short], 5, tip) == short
    assert _longest(others, 5, tip) == []
    assert _longest([], 5, tip) == []


def test_the_age_of_backups_is_told_and_the_files_beside_them_are_missed(tmp_path: Path) -> None:
    assert not age_of(None, NOON_MS).good
    assert "none in" in age_of(tmp_path, NOON_MS).detail
    backups(tmp_path, 30, 1)
    assert "keyring and erasures not beside them" in age_of(tmp_path, NOON_MS).detail
    for name in (KEYRING, ERASURES):
        (tmp_path / name).write_bytes(b"")
    told = age_of(tmp_path, NOON_MS)
    assert told.good
    assert "24 hours ago; the oldest 30 days ago" in told.detail
    assert not age_of(tmp_path, NOON_MS + 10 * DAY_MS).good
