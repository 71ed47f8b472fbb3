"""What lies in a directory of backups: names by time, journals that survive a torn line, and how old it all is."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from ledger.backup.archive import ABOUT, About, Packer, SiteInside
from ledger.backup.beside import Beside
from ledger.backup.dump import dumped
from ledger.backup.folder import BESIDE, age_of, alone_in, kept_in, name_of, prune
from ledger.backup.journal import LEAF_BYTES, ActLine, ErasureLine, Journal, gone_of
from ledger.backup.keyring import Keyring, Wrapped, load_keyring, write_keyring
from ledger.backup.orders import are_older, newer_sites
from ledger.backup.restore import _Beside, _lost
from ledger.backup.stream import Damaged, Sealer
from ledger.backup.tail import _longest
from ledger.backup.take import Target, _write, forget_acts
from ledger.cli import main
from ledger.config import load_settings
from ledger.core.duration import parse_keep
from ledger.core.encoding import encode_base64
from ledger.core.entry import Entry, Kind, decode, encode, encode_seqs
from ledger.core.errors import ConfigInvalid
from ledger.core.merkle import leaf_hash
from ledger.core.sealing import Master
from ledger.core.tail import Gone
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
    with pytest.raises(ConfigInvalid, match="LEDGER_BACKUP_KEEP"):
        load_settings({**NEEDED, "LEDGER_BACKUP_KEEP": text})


NEEDED = {"LEDGER_DATABASE_URL": "postgresql://nowhere/ledger", "LEDGER_MASTER_SECRET": "A" * 43 + "="}


def test_how_long_backups_are_kept_reaches_every_process() -> None:
    assert load_settings(NEEDED).backup_keep_ms is None
    loaded = load_settings({**NEEDED, "LEDGER_BACKUP_KEEP": "99999w"})
    assert loaded.backup_keep_ms == 99_999 * 7 * DAY_MS
    assert load_settings(loaded.environment()) == loaded


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
        "o/shop.example.com", seq, entry(seq, kind=Kind.ERASURE, public=seqs), b"sealed", b"leaf...1leaf...2", ()
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
    line = ErasureLine("o/s.example.com", 3, erasure(3).entry, b"", bytes(LEAF_BYTES), ())
    with pytest.raises(Damaged, match="entry 3 in the journal"):
        line.positions()


def test_what_is_left_of_the_erased_is_found_by_position_behind_the_end_of_a_log() -> None:
    def line(origin: str, by: int, *seqs: int) -> ErasureLine:
        entries = tuple(entry(seq) for seq in seqs)
        leaves = b"".join(leaf_hash(each)[:LEAF_BYTES] for each in entries)
        data = entry(by, kind=Kind.ERASURE, public=encode_seqs(list(seqs)))
        return ErasureLine(origin, by, data, b"", leaves, entries[1:])

    first, second = line("o/a", 6, 1, 4, 5), line("o/a", 9, 2, 8)
    found = gone_of([first, line("o/b", 9, 1, 7), second, line("o/a", 4, 1, 3)], "o/a", 5)
    assert found == {5: [Gone(entry(5), first.entry)], 8: [Gone(entry(8), second.entry)]}
    lie = msgspec.structs.replace(second, entries=(entry(8, prev=b"x" * 32),))
    with pytest.raises(Damaged, match="holds an entry that it does not name"):
        gone_of([lie], "o/a", 5)


def test_the_entries_of_the_erased_go_when_no_stream_can_reach_back_so_far(tmp_path: Path) -> None:
    lines = [msgspec.structs.replace(erasure(seq), entries=(entry(1),)) for seq in (3, 4)]
    journal, writer = (Journal(tmp_path / "erasures", ErasureLine) for _ in range(2))
    writer.append(lines)
    journal.change(lambda line: line.without_entries(before_ms=1_004))
    assert list(journal.read()) == [erasure(3), lines[1]]
    writer.append(lines)
    assert list(journal.read()) == [erasure(3), lines[1]], "known by its entry, it does not come again"


def chain(first: int, prev: bytes, *millis: int) -> list[ActLine]:
    lines = []
    for at, _ in enumerate(millis):
        made = encode(Entry(first + at, millis[at], prev, Kind.EVENT, bytes(32), bytes(32), bytes(64), b""))
        lines.append(ActLine("o/s", first + at, made, None))
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
    assert _longest(2 * chain(5, tip, *range(64)), 5, tip) == chain(5, tip, *range(64)), "whichever is there twice"


def test_the_age_of_backups_is_told_and_the_files_beside_them_are_missed(tmp_path: Path) -> None:
    assert not age_of(None, NOON_MS).good
    assert "none in" in age_of(tmp_path, NOON_MS).detail
    backups(tmp_path, 30, 1)
    assert "not beside them: keyring, erasures, acts, orders" in age_of(tmp_path, NOON_MS).detail
    for name in BESIDE:
        (tmp_path / name).write_bytes(b"")
    told = age_of(tmp_path, NOON_MS)
    assert told.good
    assert "24 hours ago; the oldest 30 days ago" in told.detail
    assert not age_of(tmp_path, NOON_MS + 10 * DAY_MS).good


ORIGIN = "o/shop.example.com"
CREATED = datetime(2026, 9, 1, tzinfo=UTC)


def about(size: int = 9, *, made: int = 3, destroyed: int = 0, taken_ms: int = NOON_MS, origin: str = ORIGIN) -> About:
    return About(taken_ms, "0.1.0", "18", {}, (SiteInside("shop.example.com", origin, size, "", made, destroyed),))


def keyring(destroyed: int = 0, origin: str = ORIGIN) -> Keyring:
    keys = [Wrapped(n, "opening", 1, None if n <= destroyed else b"key", 0, CREATED, None) for n in (1, 2, 3)]
    return Keyring({origin: tuple(keys)})


def backup_of(path: Path, size: int, secret: bytes) -> None:
    with path.open("wb") as file:
        packer = Packer(Sealer(file.write, secret, 1, bytes(16), bytes(32)))
        packer.add(ABOUT, msgspec.json.encode(about(size)))
        packer.finish()


def test_acts_go_that_every_backup_holds_and_erasures_stay_for_copies_elsewhere(tmp_path: Path) -> None:
    beside = Beside(tmp_path, Master(1, bytes(32)))
    beside.erasures.append([erasure(3), erasure(7)])
    beside.acts.append([ActLine(ORIGIN, seq, entry(seq), None) for seq in (4, 5, 6)])
    backup_of(tmp_path / name_of(NOON_MS), 6, bytes(32))
    backup_of(tmp_path / name_of(NOON_MS - DAY_MS), 5, b"of the secret of before, which went")
    forget_acts(beside, tmp_path, {1: bytes(32)})
    assert [line.seq for line in beside.acts.read()] == [4, 5, 6], "who knows what the other one holds"
    backup_of(tmp_path / name_of(NOON_MS - DAY_MS), 5, bytes(32))
    forget_acts(beside, tmp_path, {1: bytes(32)})
    assert [line.seq for line in beside.acts.read()] == [5, 6]
    assert [line.seq for line in beside.erasures.read()] == [3, 7]


def test_a_keyring_that_somebody_put_back_is_replaced_and_one_that_is_right_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "keyring"
    write_keyring(path, keyring())
    older = path.read_bytes()
    write_keyring(path, keyring(destroyed=1))
    left = path.stat()
    write_keyring(path, keyring(destroyed=1))
    assert path.stat() == left
    path.write_bytes(older)
    write_keyring(path, keyring(destroyed=1))
    assert load_keyring(path) == keyring(destroyed=1)


def late_act(ms: int) -> ActLine:
    return ActLine(ORIGIN, 9, encode(decode(entry(9))._replace(ms=ms)), None)


@pytest.mark.parametrize(
    ("beside", "base", "words"),
    [
        (_Beside(keyring(destroyed=1), [], [late_act(NOON_MS)], (about(destroyed=1), {})), about(), None),
        (_Beside(keyring(destroyed=1), [], [late_act(NOON_MS)], None), about(destroyed=1), None),
        (_Beside(keyring(), [], [], (about(destroyed=1), {})), about(), "`keyring` is an older copy"),
        (_Beside(keyring(), [], [], (about(made=4), {})), about(), "`keyring` is an older copy"),
        (_Beside(keyring(), [], [], None), about(destroyed=1), "`keyring` is an older copy"),
        (_Beside(keyring(), [], [late_act(NOON_MS + DAY_MS)], (about(), {})), about(), "`orders` are of 2026-09-21"),
        (_Beside(Keyring(keyring().keys | keyring(origin="o/new").keys), [], [], None), about(), "o/new was added"),
    ],
    ids=["whole", "no orders", "a key alive", "a key less", "older than the backup", "older orders", "a site more"],
)
def test_what_lies_beside_a_backup_and_is_an_older_copy_is_told(
    beside: _Beside, base: About, words: str | None
) -> None:
    told = list(_lost(beside, base))
    assert len(told) == (words is not None), told
    assert words is None or words in told[0]


def of_sites(**sizes: int) -> About:
    logs = {name.replace("_", ".admin-log"): size for name, size in sizes.items()}
    inside = (SiteInside(log, f"o/{log}", size, "", 1, 0) for log, size in logs.items())
    return About(sum(sizes.values()) % 7, "0.1.0", "18", {}, tuple(inside))


def test_orders_of_before_are_put_over_no_sites_newer_ones_whatever_the_clock_says() -> None:
    base = of_sites(a=9, a_=5, b=9, b_=5)
    assert are_older(of_sites(a=9, a_=4, b=9, b_=9), base)
    assert not are_older(base, base)
    assert newer_sites(base, base) == ["a", "b"]
    assert newer_sites(of_sites(a=9, a_=4, b=9, b_=9), base) == ["b"]
    assert newer_sites(of_sites(a=1, a_=5), base) == ["a"], "events alone order nothing"
    assert newer_sites(of_sites(a=9, a_=4, b=99, b_=4), base) == []


def test_of_a_backup_for_which_there_was_no_room_nothing_is_left(tmp_path: Path) -> None:
    def full(write: Callable[[bytes], object]) -> int:
        write(b"rows")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(ConfigInvalid, match="nothing is left of it: No space left on device"):
        _write(Target(tmp_path, None, None, tmp_path), NOON_MS, full)
    assert list(tmp_path.iterdir()) == []
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb", buffering=0) as pipe, pytest.raises(ConfigInvalid, match="went away"):
        _write(Target(None, None, pipe, tmp_path), NOON_MS, lambda write: int(bool(write(b"rows"))))


def test_what_another_wrote_meanwhile_is_not_written_twice(tmp_path: Path) -> None:
    worker, backup = (Journal(tmp_path / "erasures", ErasureLine) for _ in range(2))
    worker.append([erasure(3)])
    backup.append([erasure(3), erasure(4)])
    worker.append([erasure(4), erasure(5)])
    backup.keep(lambda line: line.seq > 3)
    worker.append([erasure(5), erasure(6)])
    assert [line.seq for line in backup.read()] == [4, 5, 6]


def test_a_client_without_tls_says_which_to_take(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ConfigInvalid, match=r"pg_dump speaks no TLS.*first on PATH"):
        list(dumped("postgresql://ledger@127.0.0.1:1/ledger?sslmode=require&password=secret", "00000000-0", 15))


def test_a_directory_without_backups_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEDGER_MASTER_SECRET", encode_base64(bytes(range(32))))
    gone = CliRunner().invoke(main, ["backup", "list", str(tmp_path / "none"), "--data", str(tmp_path)])
    assert (gone.exit_code, gone.stderr) == (2, f"Error: {tmp_path}/none is not there\n")
    empty = CliRunner().invoke(main, ["backup", "list", str(tmp_path), "--data", str(tmp_path)])
    assert (empty.exit_code, empty.stderr) == (0, f"no backup lies in {tmp_path}\n")
