"""The incremental auditor finds what the whole one finds, in steps of any width, and remembers it in its file."""

from __future__ import annotations

import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ledger.core.errors import Malformed, Unavailable
from ledger.core.follow import Follower, Sort, Step
from ledger.core.opening import Opening, decode_line
from ledger.memory import MemoryDamaged, SqliteMemory
from tests.logbuilder import ORIGIN, START_MS, LogBuilder, full_log, key
from tests.unit import test_audit_rules, test_audit_rules_of_content
from tests.unit.audit_cases import Case, short_log

BREAKS = {**test_audit_rules.breaks, **test_audit_rules_of_content.breaks}
OF_ENTRIES = {1, 3, 5, 6, 7, 8, 9, 10, 11, 12}
OF_A_BUNDLE = {
    "rule_10_an_opening_in_the_place_of_a_later_entry_bundle",
    "rule_10_more_openings_than_entries",
    "rule_10_openings_out_of_order",
    "rule_10_two_openings_of_one_entry",
    "rule_1_an_entry_bundle_cut_short",
    "rule_1_an_entry_bundle_with_bytes_behind_its_entries",
}
"""What the form of files breaks, which a follower does not see."""


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[SqliteMemory]:
    with SqliteMemory(tmp_path / "a.memory", ORIGIN) as opened:
        yield opened


def openings_of(log: LogBuilder, first: int, width: int) -> list[Opening]:
    return [Opening(seq, *log.openings[seq]) for seq in range(first, first + width) if seq in log.openings]


def settle(follower: Follower, log: LogBuilder, step: Step) -> None:
    """What the shell does between a step and keeping it."""
    for digest, seq in step.documents:
        follower.document(step, digest, seq, log.documents.get(digest.hex()))
    for suspect in step.suspects:
        opening = log.openings.get(suspect.earlier)
        follower.recheck(step, suspect, log.entries[suspect.earlier], opening[1] if opening else None)
    for _, named in step.erasures if not step.faults else []:
        for seq in log.openings.keys() & set(named):
            follower.refuse(step, 12, "erased, and its opening is still there", seq)


def follow(follower: Follower, log: LogBuilder, width: int, *, log_only: bool = False) -> list[tuple[int, int | None]]:
    """Follow a log to its end, or to the first step with faults: these."""
    while follower.size < len(log.entries):
        entries = log.entries[follower.size : follower.size + width]
        openings = None if log_only else openings_of(log, follower.size, len(entries))
        step = follower.step(entries, openings)
        if not log_only:
            settle(follower, log, step)
        if step.faults:
            return [(fault.rule, fault.seq) for fault in step.faults.first()]
        follower.keep()
    return []


@pytest.mark.parametrize("width", [1, 7, 256, 1000])
def test_a_sound_log_is_followed_to_its_root_in_steps_of_any_width(memory: SqliteMemory, width: int) -> None:
    log = full_log(500)
    follower = Follower(ORIGIN, memory, log.log_id)
    assert follow(follower, log, width) == []
    assert (follower.size, follower.root()) == (len(log.entries), log.root_hash(len(log.entries)))
    assert follower.unopened is None
    assert follower.keys is not None
    assert follower.keys.log_keys == (log.log_vkey, log.vkey(key("log 2")))


def test_it_goes_on_where_it_was_when_its_file_is_opened_again(tmp_path: Path) -> None:
    log = full_log(40)
    for _ in log.entries:
        with SqliteMemory(tmp_path / "a.memory", ORIGIN) as memory:
            follower = Follower(ORIGIN, memory)
            entries = log.entries[follower.size : follower.size + 1]
            step = follower.step(entries, openings_of(log, follower.size, 1))
            settle(follower, log, step)
            assert not step.faults
            follower.keep(b"checkpoint %d" % follower.size)
    with SqliteMemory(tmp_path / "a.memory", ORIGIN) as memory:
        follower = Follower(ORIGIN, memory)
        assert follower.root() == log.root_hash(len(log.entries))
        assert follower.checkpoint == b"checkpoint %d" % len(log.entries)


@pytest.mark.parametrize("width", [1, 1000])
@pytest.mark.parametrize("name", sorted(BREAKS.keys() - OF_A_BUNDLE))
def test_what_the_auditor_finds_in_entries_the_follower_finds_at_the_same_entry(
    name: str, width: int, memory: SqliteMemory
) -> None:
    case = Case(short_log())
    expected = {fault for fault in BREAKS[name](case) if fault[0] in OF_ENTRIES and fault[1] is not None}
    log = case.log
    if case.witnesses or case.kept:
        expected = {fault for fault in expected if fault[0] != 6}  # the caller's part
    if case.lines is not None:
        try:
            log.openings = {o.seq: (o.salt, o.payload) for o in map(decode_line, case.lines)}
        except Malformed:
            pytest.skip("of the form of a bundle's file")
    for path, data in case.files.items():
        if path.startswith("documents/"):
            log.documents.pop(path.removeprefix("documents/"))
            if data is not None:
                log.documents[path.removeprefix("documents/")] = data
    follower = Follower(log.origin, memory)
    found = follow(follower, log, width)
    if not found and follower.unopened is not None:
        found = [(12, follower.unopened)]
    assert set(found) <= expected
    assert bool(found) == bool(expected)


def test_a_log_is_followed_without_openings_and_what_needs_none_is_found(memory: SqliteMemory) -> None:
    log = full_log(30)
    follower = Follower(ORIGIN, memory)
    assert follow(follower, log, 10, log_only=True) == []
    assert follower.unopened is None
    again = log.append_bytes(log.entries[-1])
    assert follow(follower, log, 10, log_only=True) == [(3, again), (3, again)]


def test_another_genesis_than_the_one_given_is_another_log(memory: SqliteMemory) -> None:
    assert follow(Follower(ORIGIN, memory, bytes(32)), short_log(), 10) == [(4, 0)]


def test_what_was_found_faulty_is_not_kept_and_the_follower_goes_on_from_before_it(memory: SqliteMemory) -> None:
    log = full_log(5)
    follower = Follower(ORIGIN, memory)
    assert follow(follower, log, 4) == []
    good, root = len(log.entries), follower.root()
    log.introduce_ingest(key("ingest 3"))
    log.append_opened(1, log.payload(), signature=bytes(64))
    assert follow(follower, log, 10) == [(7, good + 1)]
    with pytest.raises(RuntimeError):
        follower.keep()
    with pytest.raises(RuntimeError):
        follower.step(log.entries[good:], [])
    follower.drop()
    assert (follower.size, follower.root()) == (good, root)
    del log.entries[good:], log.leaves[good:]
    log.openings.pop(good + 1)
    log.introduce_ingest(key("ingest 3"))
    log.event()
    assert follow(follower, log, 10) == []
    assert follower.size == good + 2


def test_an_event_without_an_opening_is_remembered_until_an_erasure_names_it(memory: SqliteMemory) -> None:
    log = short_log()
    lost = log.event()
    log.openings.pop(lost)
    follower = Follower(ORIGIN, memory)
    assert follow(follower, log, 3) == []
    assert follower.unopened == lost
    log.erase(lost)
    assert follow(follower, log, 3) == []
    assert follower.unopened is None


def test_no_entry_may_be_later_than_the_time_given(memory: SqliteMemory) -> None:
    log = short_log()
    follower = Follower(ORIGIN, memory)
    step = follower.step(log.entries, openings_of(log, 0, 7), latest_ms=START_MS + 6_000)
    assert [(fault.rule, fault.seq) for fault in step.faults.first()] == [(6, 6)]


def test_a_collision_of_fingerprints_is_no_fault(memory: SqliteMemory) -> None:
    log = short_log()
    follower = Follower(ORIGIN, memory)
    original = memory.add
    memory.add = lambda sort, fingerprints, seqs: original(sort, [1] * len(seqs), seqs)  # type: ignore[method-assign]
    step = follower.step(log.entries, openings_of(log, 0, 7))
    assert [(suspect.sort, suspect.earlier) for suspect in step.suspects] == [
        (sort, 2) for sort in Sort for _ in range(4)
    ]
    settle(follower, log, step)
    assert not step.faults


def test_the_file_is_for_its_owner_and_for_one_process_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a.memory"
    opening = (
        f"from ledger.memory import SqliteMemory as M; from pathlib import Path as P; M(P({str(path)!r}), {ORIGIN!r})"
    )
    with SqliteMemory(path, ORIGIN):
        assert {stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()} == {0o600}
        with pytest.raises(Unavailable, match="another process"):
            SqliteMemory(path, ORIGIN)
        other = subprocess.run([sys.executable, "-c", opening], capture_output=True, text=True, check=False)
        assert "another process" in other.stderr
    assert subprocess.run([sys.executable, "-c", opening], check=False).returncode == 0


def test_a_process_killed_in_the_middle_of_a_round_leaves_what_was_kept_before(tmp_path: Path) -> None:
    path = tmp_path / "a.memory"
    program = f"""
import os, pathlib, signal
from ledger.core.follow import Follower
from ledger.memory import SqliteMemory
from tests.logbuilder import ORIGIN, full_log
from tests.unit.test_follow import follow, openings_of
log = full_log(5)
follower = Follower(ORIGIN, SqliteMemory(pathlib.Path({str(path)!r}), ORIGIN))
assert follow(follower, log, 4) == []
log.events(100)
assert not follower.step(log.entries[follower.size:], openings_of(log, follower.size, 100)).faults
os.kill(os.getpid(), signal.SIGKILL)
"""
    killed = subprocess.run([sys.executable, "-c", program], cwd=Path(__file__).parents[2], check=False)
    assert killed.returncode == -9
    log = full_log(5)
    with SqliteMemory(path, ORIGIN) as memory:
        follower = Follower(ORIGIN, memory)
        assert (follower.size, follower.root()) == (len(log.entries), log.root_hash(len(log.entries)))
        log.events(100)
        assert follow(follower, log, 50) == []


def test_a_file_that_is_no_memory_of_this_log_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.memory"
    path.write_bytes(b"something else, and long enough that it cannot be taken for an empty file" * 20)
    with pytest.raises(MemoryDamaged):
        SqliteMemory(path, ORIGIN)
    path.unlink()
    SqliteMemory(path, ORIGIN).close()
    with pytest.raises(MemoryDamaged):
        SqliteMemory(path, "ledger.example/another.example.com")
    database = sqlite3.connect(path)
    database.execute("insert into state values (1, 3, x'00', x'00', 1, null)")
    database.commit()
    database.close()
    with SqliteMemory(path, ORIGIN) as memory, pytest.raises(MemoryDamaged):
        Follower(ORIGIN, memory)
