"""The auditor's watch, beside servers that are honest, behind, away, or lie: to one reader, or to all."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from ledger import log_client
from ledger.core import keys
from ledger.core.note import parse_checkpoint
from ledger.core.quorum import TrustPolicy
from ledger.core.watch import Finding, Growth, Head, Kind, judge_growth, tiles_of_growth
from ledger.log_client import LogClient, open_session
from ledger.monitor import advance, view, watch
from ledger.monitor import record as monitor_record
from ledger.monitor.command import read_policy
from ledger.monitor.record import Record, State
from ledger.monitor.run import report_of
from ledger.monitor.watch import Aim, Watch
from tests.logbuilder import LogBuilder, full_log, key, witness
from tests.logserver import LogServer, endless, silent, truncated


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_client, "LOG_CLIENT_RETRY_PAUSES_SECONDS", (0.01, 0.01, 0.0))
    monkeypatch.setattr(watch, "MONITOR_LOOK_AGAIN_SECONDS", 0.01)
    monkeypatch.setattr(view, "MONITOR_LOOK_AGAIN_SECONDS", 0.01)


@dataclass
class Auditor:
    """A monitor that is started anew for every look, so that each look is a restart too."""

    log: LogBuilder
    directory: Path
    servers: list[LogServer]
    log_id: bytes | None = None
    policy: TrustPolicy = field(default_factory=TrustPolicy)
    entries: bool = True
    now: float = 1_800_000_000.0
    max_silence: int = 0
    vkey: Any = None
    notices: list[Any] = field(default_factory=list)

    async def look(self, rounds: int = 1) -> tuple[int, list[str], list[str]]:
        """Exit code, kinds of faults, kinds of alarms."""
        aim = Aim(self.vkey or self.log.log_vkey, self.log_id, self.policy, 1800, self.max_silence)
        with Record(self.directory, self.log.origin) as record:
            async with open_session() as session:
                clients = [LogClient(session, server.url) for server in self.servers]
                watching = Watch(aim, clients, record, lambda: self.now, entries=self.entries)
                watching.announcer.listener = self.notices.append
                try:
                    for _ in range(rounds):
                        await watching.round()
                    watching.settle()
                    self.report = report_of(watching)
                    self.state: State = record.state
                    self.where = record.directory
                finally:
                    watching.close()
        report = self.report
        return report.exit_code, [fault.kind for fault in report.faults], [alarm.kind for alarm in report.alarms]

    def forget_requests(self) -> None:
        for server in self.servers:
            server.requests.clear()


SOUND: tuple[int, list[str], list[str]] = (0, [], [])


def a_log(events: int = 300) -> LogBuilder:
    log = LogBuilder()
    log.policy()
    log.events(events)
    return log


def another(log: LogBuilder, at: int) -> LogBuilder:
    """A log that is the same up to entry `at`, and another one from there on."""
    other = a_log(0)
    while len(other.entries) < at:
        other.append_bytes(log.entries[len(other.entries)])
        other.now_ms = log.now_ms
    other.now_ms += 5
    while len(other.entries) < len(log.entries):
        other.event(action="accept_all")
    return other


@pytest_asyncio.fixture
async def server() -> AsyncIterator[LogServer]:
    async with LogServer(a_log()) as running:
        yield running


@pytest.fixture
def log(server: LogServer) -> LogBuilder:
    assert server.log is not None
    return server.log


@pytest.fixture
def auditor(server: LogServer, log: LogBuilder, tmp_path: Path) -> Auditor:
    return Auditor(log, tmp_path / "monitor", [server])


# --- a log that is as it should be ------------------------------------------------------------------------------------


@pytest.mark.parametrize("entries", [True, False])
async def test_a_growing_log_is_followed_from_look_to_look(auditor: Auditor, entries: bool) -> None:
    auditor.entries = entries
    for more in (0, 1, 5, 250, 256, 700):
        auditor.log.events(more)
        assert await auditor.look() == SOUND
        assert auditor.report.size == len(auditor.log.entries)
        assert auditor.report.entries is entries
        assert auditor.report.log_id == auditor.log.log_id.hex()


async def test_every_kind_of_entry_is_followed(tmp_path: Path) -> None:
    log = full_log(30)
    async with LogServer(log) as server:
        assert await Auditor(log, tmp_path, [server], log.log_id).look() == SOUND


async def test_a_restart_reads_what_is_new_and_nothing_else(auditor: Auditor) -> None:
    auditor.log.events(2000)
    await auditor.look()
    server = auditor.servers[0]
    assert server.count("tile/entries/") == -(-len(auditor.log.entries) // 256)
    auditor.forget_requests()
    assert await auditor.look() == SOUND
    assert dict(server.requests) == {"checkpoint": 1}
    auditor.log.events(1)
    assert await auditor.look() == SOUND
    assert server.count("tile/entries/") == 1
    assert server.count() < 10


async def test_a_state_that_is_half_way_is_taken_up_there(auditor: Auditor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(advance, "MONITOR_KEEP_ENTRIES", 512)
    auditor.log.events(2000)
    last = auditor.log.entries[-1]
    auditor.log.entries[-1] = b"broken"
    assert await auditor.look() == (1, ["tiles"], [])
    auditor.log.entries[-1] = last
    auditor.forget_requests()
    assert (await auditor.look())[1:] == (["tiles"], [])
    assert auditor.report.size == len(auditor.log.entries)
    assert auditor.servers[0].requests["tile/entries/000"] == 0


async def test_partial_tiles_that_are_gone_are_read_from_full_ones(auditor: Auditor) -> None:
    log, server = auditor.log, auditor.servers[0]
    server.serve(log.checkpoint(40))
    server.lies = {"tile/0/000.p/40": 404, "tile/entries/000.p/40": 404}
    assert await auditor.look() == SOUND


async def test_guarded_entries_leave_consistency_and_tiles(auditor: Auditor) -> None:
    server = auditor.servers[0]
    server.lies = {f"tile/entries/{n:03}": 401 for n in range(9)} | {"tile/entries/001.p/46": 401}
    assert await auditor.look() == SOUND
    assert (auditor.report.entries, auditor.report.size) == (False, 302)
    server.lies = {}
    auditor.log.events(1)
    assert await auditor.look() == SOUND
    assert auditor.report.entries, "with a key at last, every entry is judged"


async def test_entries_that_become_guarded_are_an_alarm(auditor: Auditor) -> None:
    await auditor.look()
    auditor.log.events(1)
    auditor.servers[0].lies = {"tile/entries/001.p/47": 403}
    for _ in range(2):
        assert await auditor.look() == (2, [], ["guarded"])
        assert auditor.report.size == 303
    auditor.servers[0].lies = {}
    assert await auditor.look() == SOUND


# --- lies -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("entries", [True, False])
@pytest.mark.parametrize("grown", [0, 1, 300])
async def test_a_log_that_was_rewritten_is_a_fork_with_its_evidence(
    auditor: Auditor, grown: int, entries: bool
) -> None:
    auditor.entries = entries
    await auditor.look()
    old = auditor.log.checkpoint()
    rewritten = another(auditor.log, 150)
    rewritten.events(grown)
    auditor.servers[0].log = rewritten
    assert await auditor.look() == (1, ["fork"], [])
    evidence = auditor.where / auditor.report.faults[0].evidence
    notes = sorted(evidence.glob("*.checkpoint"))
    assert [parse_checkpoint(note.read_bytes()).root for note in notes] == [old.root, rewritten.checkpoint().root]
    assert all(note.stat().st_mode & 0o777 == 0o600 for note in notes)
    assert auditor.report.size == old.size, "it stays with what it verified"
    if grown:
        small, large = (parse_checkpoint(note.read_bytes()) for note in notes)
        places = {(t.level, t.n): (evidence / t.path).read_bytes() for t in tiles_of_growth(small.size, large.size)}
        assert judge_growth(Head(small.size, small.root), Head(large.size, large.root), places) is Growth.FORK


async def test_a_fork_that_is_smaller_is_found_from_the_tiles_of_the_larger_one(auditor: Auditor) -> None:
    other = another(auditor.log, 150)
    async with LogServer(other) as second:
        await auditor.look()
        auditor.servers.append(second)
        second.serve(other.checkpoint(200))
        assert await auditor.look() == (1, ["fork"], [])
        assert auditor.report.faults[0].url == second.url
        evidence = auditor.where / auditor.report.faults[0].evidence
        assert len(list(evidence.glob("*.checkpoint"))) == 2
        assert (evidence / "tile/0/000").is_file()


async def test_a_stranger_beside_the_log_does_not_make_a_fork_of_it(auditor: Auditor) -> None:
    async with LogServer(auditor.log) as second:
        auditor.servers.append(second)
        second.serve(auditor.log.checkpoint(signers=[key("stranger")], root=bytes(32)))
        assert await auditor.look() == (1, ["unsigned"], [])
        assert auditor.report.faults[0].url == second.url


async def test_a_size_that_was_verified_before_needs_no_tiles_to_be_compared(auditor: Auditor) -> None:
    auditor.servers[0].serve(auditor.log.checkpoint(200))
    await auditor.look()
    auditor.servers[0].note = None
    await auditor.look()
    auditor.servers[0].lies = {f"tile/{tile}": 503 for tile in ("0/000", "0/001.p/46", "1/000.p/1")}
    async with LogServer(another(auditor.log, 150)) as second:
        auditor.servers.append(second)
        second.serve(second.log.checkpoint(200) if second.log else auditor.log.checkpoint())
        assert await auditor.look() == (1, ["fork"], [])


async def test_a_smaller_view_that_was_never_signed_convicts_nobody_of_a_fork(auditor: Auditor) -> None:
    await auditor.look()
    auditor.servers[0].serve(auditor.log.checkpoint(200, signers=[key("stranger")], root=bytes(32)))
    assert (await auditor.look())[1] == ["unsigned"]


async def test_of_two_forks_the_smaller_one_may_come_first(auditor: Auditor) -> None:
    other = another(auditor.log, 150)
    async with LogServer(other) as second:
        auditor.servers.append(second)
        second.serve(other.checkpoint(200))
        assert await auditor.look() == (1, ["fork"], [])


async def test_a_log_shown_differently_to_each_reader_is_found_by_who_compares(auditor: Auditor) -> None:
    async with LogServer(another(auditor.log, 301)) as second:
        auditor.servers.append(second)
        assert await auditor.look() == (1, ["fork"], [])
        assert auditor.report.faults[0].url == second.url
        assert len(auditor.report.faults[0].evidence) > 0


async def test_a_fork_is_found_even_where_one_side_of_it_is_withheld(auditor: Auditor) -> None:
    auditor.servers[0].lies = {"tile/0/000": 503}
    async with LogServer(another(auditor.log, 301)) as second:
        auditor.servers.append(second)
        assert (await auditor.look())[:2] == (1, ["fork"])


async def test_one_reader_alone_finds_the_lie_when_it_is_told_the_other_story(auditor: Auditor) -> None:
    """The server keeps a whole story for each reader, each linear by itself."""
    server, story = auditor.servers[0], another(auditor.log, 200)
    await auditor.look()
    server.log = story
    assert (await auditor.look())[1] == ["fork"]


async def test_another_root_at_the_same_size_is_a_fork(auditor: Auditor) -> None:
    await auditor.look()
    auditor.servers[0].serve(auditor.log.checkpoint(root=bytes(32)))
    assert await auditor.look() == (1, ["fork"], [])


async def test_an_empty_log_has_the_root_of_an_empty_tree(auditor: Auditor) -> None:
    auditor.servers[0].serve(auditor.log.checkpoint(0))
    assert await auditor.look() == SOUND
    auditor.servers[0].serve(auditor.log.checkpoint(0, root=bytes(32)))
    assert await auditor.look() == (1, ["tiles"], [])


async def test_a_checkpoint_of_a_stranger_is_no_checkpoint(auditor: Auditor) -> None:
    auditor.servers[0].serve(auditor.log.checkpoint(signers=[key("stranger")]))
    assert await auditor.look() == (1, ["unsigned"], [])
    assert auditor.report.size == 0
    auditor.entries = False
    assert (await auditor.look())[1] == ["unsigned"]


async def test_nothing_that_leads_up_to_a_stranger_s_checkpoint_is_kept(
    auditor: Auditor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(advance, "MONITOR_KEEP_ENTRIES", 256)
    auditor.servers[0].serve(auditor.log.checkpoint(signers=[key("stranger")]))
    await auditor.look()
    auditor.servers[0].note = None
    auditor.forget_requests()
    await auditor.look()
    assert auditor.report.size == len(auditor.log.entries)
    assert auditor.servers[0].requests["tile/entries/000"] == 1


async def test_a_false_signature_of_a_known_key_is_a_fault(auditor: Auditor) -> None:
    made = auditor.log.checkpoint()
    false = made.signatures[0]._replace(value=bytes(64))
    auditor.servers[0].serve(made._replace(signatures=(*made.signatures, false)))
    assert await auditor.look() == (1, ["bad-signature"], [])


@pytest.mark.parametrize("body", [b"", b"<html>down for maintenance</html>", b"\xff" * 100])
async def test_what_is_no_checkpoint_is_a_fault(auditor: Auditor, body: bytes) -> None:
    auditor.servers[0].note = body
    assert await auditor.look() == (1, ["malformed"], [])
    assert auditor.servers[0].requests["checkpoint"] == 2, "it looked again before it said so"


async def test_a_checkpoint_of_another_log_is_a_fault(auditor: Auditor) -> None:
    auditor.servers[0].log = LogBuilder("ledger.example/we-nera.com")
    assert await auditor.look() == (1, ["malformed"], [])


async def test_another_genesis_than_the_one_given_is_another_log(auditor: Auditor) -> None:
    for entries in (True, False):
        auditor.log_id, auditor.entries = bytes(32), entries
        assert await auditor.look() == (1, ["log-id"], [])


@pytest.mark.parametrize("entries", [True, False])
@pytest.mark.parametrize("path", ["tile/0/000", "tile/0/001.p/46", "tile/1/000.p/1"])
@pytest.mark.parametrize("lie", [404, b"", b"\0" * 8192, "cut", "long"])
async def test_a_tile_that_does_not_match_is_a_fault(auditor: Auditor, path: str, lie: Any, entries: bool) -> None:
    auditor.entries = entries
    server = auditor.servers[0]
    if lie == "cut":
        lie = (server._read(path) or b"")[:-1]
    if lie == "long":
        lie = endless()
    server.lies = {path: lie, path.partition(".p/")[0]: lie}
    assert await auditor.look() == (1, ["tiles"], [])
    assert auditor.report.size == 0


async def test_a_tile_that_was_wrong_for_a_moment_is_none(auditor: Auditor) -> None:
    server = auditor.servers[0]
    right = server._read("tile/0/000")

    async def first_wrong(request: Any) -> Any:
        from aiohttp import web

        return web.Response(body=right if request.headers.get("Cache-Control") == "no-cache" else bytes(8192))

    server.lies = {"tile/0/000": first_wrong}
    assert await auditor.look() == SOUND


async def test_a_higher_tile_that_does_not_match_is_a_fault_of_whoever_reads_tiles(tmp_path: Path) -> None:
    log = a_log(600)
    async with LogServer(log) as server:
        right = server._read("tile/1/000.p/2") or b""
        server.lies = {"tile/1/000.p/2": right[:32] + bytes(32)}
        for entries in (True, False):
            assert await Auditor(log, tmp_path / str(entries), [server], entries=entries).look() == (1, ["tiles"], [])


async def test_a_full_tile_away_from_the_edges_that_does_not_match_is_a_fault(tmp_path: Path) -> None:
    log = a_log(0)
    log.leaves += [sha256(b"%d" % i).digest() for i in range(2 * 65_536)]
    async with LogServer(log) as server:
        server.serve(log.checkpoint(len(log.leaves)))
        right = server._read("tile/1/000") or b""
        server.lies = {"tile/1/000": right[:-32] + bytes(32)}
        auditor = Auditor(log, tmp_path, [server], entries=False)
        assert await auditor.look() == (1, ["tiles"], [])
        assert auditor.report.faults[0].detail == "tile/1/000 does not hold the root of tile/0/255"
        server.lies = {}
        with Record(auditor.directory, log.origin) as record:
            record.acknowledge()
        assert await auditor.look() == SOUND


async def test_entries_that_do_not_match_their_tiles_are_a_fault(auditor: Auditor) -> None:
    entry = bytearray(auditor.log.entries[20])
    entry[-1] ^= 1
    auditor.log.entries[20] = bytes(entry)
    assert await auditor.look() == (1, ["tiles"], [])
    assert auditor.report.faults[0].seq == 20


async def test_an_entry_bundle_that_is_cut_short_or_missing_is_a_fault(auditor: Auditor) -> None:
    server = auditor.servers[0]
    bundle = server._read("tile/entries/000") or b""
    for lie in (bundle[:-1], 404):
        server.lies = {"tile/entries/000": lie}
        assert (await auditor.look())[0] == 1


async def test_an_entry_that_breaks_a_rule_is_named_with_the_rule(auditor: Auditor) -> None:
    await auditor.look()
    auditor.log.event()
    auditor.log.append(1, commit=bytes(range(32)), signer=key("thief"))
    auditor.log.event()
    assert await auditor.look() == (1, ["entries"], [])
    fault = auditor.report.faults[0]
    assert (fault.rule, fault.seq) == (7, 303)
    assert auditor.report.size == 302, "nothing of it was kept"


async def test_an_entry_that_comes_twice_is_named(auditor: Auditor) -> None:
    await auditor.look()
    log = auditor.log
    salt, payload = log.openings[5]
    log.append_opened(1, payload, salt=salt)
    assert await auditor.look() == (1, ["entries"], [])
    fault = auditor.report.faults[0]
    assert (fault.rule, fault.seq) == (9, 302)
    assert "of entry 5 again" in fault.detail


async def test_an_erasure_of_what_was_erased_before_a_restart_is_named(auditor: Auditor) -> None:
    auditor.log.erase(5)
    assert await auditor.look() == SOUND
    auditor.log.erase(5)
    assert await auditor.look() == (1, ["entries"], [])
    assert auditor.report.faults[0].rule == 11


@pytest.mark.parametrize("path", ["checkpoint", "tile/0/000", "tile/entries/000"])
async def test_a_body_cut_short_is_no_claim_about_the_log(auditor: Auditor, path: str) -> None:
    server = auditor.servers[0]
    server.lies = {path: truncated(server._read(path) or b"", 20)}
    assert await auditor.look() == (2, [], ["unreachable"])
    server.lies = {}
    assert await auditor.look() == SOUND


@pytest.mark.parametrize(("path", "kind"), [("checkpoint", "malformed"), ("tile/entries/000", "entries")])
async def test_a_body_without_end_is_a_fault_and_ends(auditor: Auditor, path: str, kind: str) -> None:
    auditor.servers[0].lies = {path: endless()}
    assert await auditor.look() == (1, [kind], [])


async def test_a_server_that_does_not_answer_is_unreachable(auditor: Auditor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_client, "LOG_CLIENT_TIMEOUT_SECONDS", 0.2)
    auditor.servers[0].lies = {"checkpoint": silent()}
    assert await auditor.look() == (2, [], ["unreachable"])


async def test_one_url_that_is_down_does_not_keep_the_other_from_being_watched(auditor: Auditor) -> None:
    down = LogServer(auditor.log)
    auditor.servers.insert(0, down)
    assert await auditor.look() == (2, [], ["unreachable"])
    assert auditor.report.size == len(auditor.log.entries)


# --- behind, back, silent ---------------------------------------------------------------------------------------------


async def test_a_url_that_lags_is_no_fault_if_it_is_consistent(auditor: Auditor) -> None:
    async with LogServer(auditor.log) as slow:
        auditor.servers.append(slow)
        slow.serve(auditor.log.checkpoint(100))
        assert await auditor.look() == SOUND
        auditor.now += 10_000
        assert await auditor.look() == (1, [], ["lagging"])
        slow.note = None
        assert await auditor.look() == SOUND


@pytest.mark.parametrize("size", [0, 1, 100, 256, 301])
async def test_a_log_that_shrinks_is_rewound(auditor: Auditor, size: int) -> None:
    await auditor.look()
    auditor.servers[0].serve(auditor.log.checkpoint(size))
    assert await auditor.look() == (1, [], ["rewound"])
    auditor.servers[0].note = None
    assert await auditor.look() == SOUND


async def test_a_log_that_shrank_and_grew_otherwise_is_a_fork(auditor: Auditor) -> None:
    await auditor.look()
    other = another(auditor.log, 150)
    auditor.servers[0].log = other
    auditor.servers[0].serve(other.checkpoint(200))
    await auditor.look()
    other.events(50)
    auditor.servers[0].note = None
    assert "fork" in (await auditor.look())[1]


async def test_a_log_that_never_changes_is_silent_if_that_is_asked_for(auditor: Auditor) -> None:
    auditor.max_silence = 60
    assert await auditor.look() == SOUND
    auditor.now += 61
    assert await auditor.look() == (1, [], ["silent"])
    auditor.log.event()
    assert await auditor.look() == SOUND


# --- witnesses --------------------------------------------------------------------------------------------------------

W1, W2 = "witness.example/w1", "witness.example/w2"


def cosigned(auditor: Auditor, *times: tuple[str, int]) -> None:
    auditor.now = auditor.log.now_ms / 1000
    now = int(auditor.now)
    made = auditor.log.checkpoint(cosigned=[(name, now - ago) for name, ago in times])
    auditor.servers[0].serve(made)


async def test_a_quorum_of_witnesses_is_asked_for(auditor: Auditor) -> None:
    auditor.policy = read_policy((str(witness(W1)), str(witness(W2))), None, "")
    cosigned(auditor, (W1, 0), (W2, 10))
    assert await auditor.look() == SOUND
    cosigned(auditor, (W1, 0))
    auditor.log.event()
    cosigned(auditor, (W1, 0))
    assert await auditor.look() == (1, [], ["quorum"])


async def test_entries_that_are_later_than_a_cosignature_that_covers_them_are_named(auditor: Auditor) -> None:
    auditor.policy = read_policy((str(witness(W1)),), None, "")
    cosigned(auditor, (W1, 65))
    assert await auditor.look() == (1, ["entries"] * 3, [])
    assert (auditor.report.faults[0].rule, auditor.report.faults[0].seq) == (6, 297)


async def test_a_witness_that_fell_silent_is_stale(auditor: Auditor) -> None:
    auditor.policy = read_policy((str(witness(W1)),), None, "")
    cosigned(auditor, (W1, 0))
    assert await auditor.look() == SOUND
    auditor.now += 1801
    assert await auditor.look() == (1, [], ["stale"])


async def test_a_witness_whose_clock_is_ahead_gives_no_sign_of_life(auditor: Auditor) -> None:
    auditor.policy = read_policy((str(witness(W1)),), None, "")
    cosigned(auditor, (W1, -10_000))
    assert await auditor.look() == (1, [], ["stale"])


async def test_a_false_cosignature_of_a_trusted_witness_is_a_fault(auditor: Auditor) -> None:
    auditor.policy = read_policy((str(witness(W1)),), None, "")
    made = auditor.log.checkpoint(cosigned=[(W1, int(auditor.now))])
    false = made.signatures[1]._replace(value=made.signatures[1].value[:-1] + b"\0")
    auditor.servers[0].serve(made._replace(signatures=(made.signatures[0], false)))
    assert await auditor.look() == (1, ["cosignature"], [])


# --- keys -------------------------------------------------------------------------------------------------------------


async def test_a_log_key_that_the_root_introduced_takes_over(auditor: Auditor) -> None:
    log, new = auditor.log, key("log 2")
    await auditor.look()
    log.key_entry(keys.introduce_log(log.vkey(new)))
    log.events(3)
    auditor.servers[0].serve(log.checkpoint(signers=[new]))
    assert await auditor.look() == SOUND
    log.key_entry(keys.retire_log(log.vkey(log.log)))
    log.events(3)
    auditor.servers[0].serve(log.checkpoint(signers=[new]))
    assert await auditor.look() == SOUND
    for more in (0, 1):
        log.events(more)
        auditor.servers[0].serve(log.checkpoint(signers=[log.log]))
        assert await auditor.look() == (1, ["unsigned"], [])
        with Record(auditor.directory, log.origin) as record:
            record.acknowledge()
    auditor.servers[0].serve(log.checkpoint(len(log.entries) - 7, signers=[log.log]))
    assert await auditor.look() == (1, [], ["rewound"]), "an old checkpoint was signed by the key of its time"


async def test_a_new_key_alone_on_the_first_look_needs_the_log_id(auditor: Auditor) -> None:
    log, new = auditor.log, key("log 2")
    vkey = log.log_vkey
    log.key_entry(keys.introduce_log(log.vkey(new)))
    auditor.servers[0].serve(log.checkpoint(signers=[new]))
    auditor.vkey = vkey
    assert await auditor.look() == (1, ["unsigned"], [])
    with Record(auditor.directory, log.origin) as record:
        record.acknowledge()
    auditor.log_id = log.log_id
    assert await auditor.look() == SOUND


async def test_a_key_that_the_root_did_not_introduce_takes_nothing_over(auditor: Auditor) -> None:
    log, new = auditor.log, key("log 2")
    await auditor.look()
    log.key_entry(keys.introduce_log(log.vkey(new)), signer=log.ingest)
    log.events(3)
    auditor.servers[0].serve(log.checkpoint(signers=[new]))
    assert await auditor.look() == (1, ["unsigned"], [])


# --- faults stay ------------------------------------------------------------------------------------------------------


async def test_a_fault_stays_after_restarts_until_it_is_acknowledged(auditor: Auditor) -> None:
    await auditor.look()
    honest = auditor.servers[0].log
    auditor.servers[0].log = another(auditor.log, 150)
    assert await auditor.look(rounds=3) == (1, ["fork"], [])
    assert [notice.event for notice in auditor.notices] == ["fault"], "it is told once"
    auditor.servers[0].log = honest
    assert await auditor.look() == (1, ["fork"], [])
    with Record(auditor.directory, auditor.log.origin) as record:
        assert record.acknowledge() == 1
    assert await auditor.look() == SOUND
    assert (auditor.where / auditor.state.acknowledged[0].evidence / "finding.json").is_file()


async def test_the_state_is_its_owners_alone_and_one_monitors(auditor: Auditor) -> None:
    await auditor.look()
    assert auditor.where.stat().st_mode & 0o777 == 0o700
    assert all(path.stat().st_mode & 0o077 == 0 for path in auditor.where.rglob("*"))
    from ledger.core.errors import ConfigInvalid

    with Record(auditor.directory, auditor.log.origin), pytest.raises(ConfigInvalid, match="another monitor"):
        await auditor.look()


async def test_a_state_that_is_damaged_is_not_silently_begun_anew(auditor: Auditor) -> None:
    from ledger.core.errors import ConfigInvalid

    await auditor.look()
    path = auditor.where / "state.json"
    state = json.loads(path.read_text())
    for damage in ({}, state | {"size": 7}, state | {"origin": "x/y.z"}, state | {"edge": []}):
        path.write_text(json.dumps(damage))
        with pytest.raises(ConfigInvalid, match="damaged"):
            await auditor.look()


async def test_a_memory_of_entries_that_is_damaged_is_made_anew(auditor: Auditor) -> None:
    await auditor.look()
    (auditor.where / "entries.sqlite").write_bytes(b"nonsense" * 1000)
    auditor.log.event()
    assert await auditor.look() == SOUND
    assert auditor.report.entries


async def test_a_crash_between_memory_and_state_loses_nothing(auditor: Auditor) -> None:
    await auditor.look()
    before = (auditor.where / "state.json").read_bytes()
    auditor.log.events(10)
    await auditor.look()
    (auditor.where / "state.json").write_bytes(before)
    auditor.forget_requests()
    assert await auditor.look() == SOUND
    assert auditor.report.size == len(auditor.log.entries)
    assert auditor.servers[0].count("tile/entries/") == 0


async def test_a_state_that_is_lost_is_made_up_for_by_the_memory_of_entries(auditor: Auditor) -> None:
    await auditor.look()
    (auditor.where / "state.json").unlink()
    auditor.servers[0].log = another(auditor.log, 150)
    assert await auditor.look() == (1, ["fork"], [])


def test_cheap_faults_leave_room_for_a_fork_and_its_evidence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitor_record, "MONITOR_FAULTS_MAX", 3)
    monkeypatch.setattr(monitor_record, "MONITOR_EVIDENCE_MAX", 3)
    with Record(tmp_path, LogBuilder().origin) as record:
        for seq in range(10):
            record.add_fault(Finding(Kind.ENTRIES, "cheap", 1, seq), "http://hostile.invalid", 1_700_000_000)
        assert len(record.state.faults) == 3
        fork = record.add_fault(Finding(Kind.FORK, "two roots", 4), "http://hostile.invalid", 1_700_000_000)
        assert fork is not None
        assert (record.directory / fork.evidence / "finding.json").is_file()
