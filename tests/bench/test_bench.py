"""The benchmark measures what it says: its requests are good ones, its answers are looked at, its table is whole."""

from __future__ import annotations

import io
import itertools
import json
import re
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from ledger.bench.load import measure, split_answer
from ledger.bench.measure import CONNECTIONS
from ledger.bench.run import run_bench
from ledger.bench.workload import Call, Job, Measured, requests, visitor
from ledger.core.errors import ConfigInvalid
from ledger.core.event import parse_input
from ledger.embedded.ports import free_port
from ledger.percentile import percentile
from tests.contract.conftest import SITE, Api, api  # noqa: F401 - a fixture

MEMORY_MAX_MB = 300


def job(call: Call, *, items: int = 1, key: str = "pk_test", port: int = 80) -> Job:
    return Job(
        call=call,
        host="127.0.0.1",
        port=port,
        site=SITE,
        key=key,
        version="1.0",
        purposes=("preferences", "analytics", "marketing"),
        run="0123abcd",
        now_ms=1_795_255_498_587,
        first=10,
        connections=2,
        seconds=0.3,
        warm_up_seconds=0.1,
        items=items,
    )


def body_of(request: bytes) -> bytes:
    head, _, body = request.partition(b"\r\n\r\n")
    length = re.search(rb"Content-Length: (\d+)", head)
    assert length is not None
    assert int(length[1]) == len(body)
    return body


def test_every_event_of_the_workload_is_a_good_one_with_its_own_id_and_visitor() -> None:
    build = requests(job("event"), itertools.count(10))
    events = [parse_input(body_of(build())) for _ in range(50)]
    assert len({event.id for event in events}) == len({event.visitor for event in events}) == 50
    assert events[0].visitor == visitor(job("event"), 10)
    assert events[0].decisions["preferences"] == "granted"


def test_an_event_that_waits_for_its_proof_is_asked_for_as_such() -> None:
    request = requests(job("proven"), itertools.count(10))()
    assert request.startswith(f"POST /v1/sites/{SITE}/events?wait=checkpoint HTTP/1.1\r\n".encode())
    assert parse_input(body_of(request)).visitor == visitor(job("proven"), 10)


def test_a_batch_has_as_many_good_lines_as_it_says() -> None:
    build = requests(job("batch", items=30), itertools.count(10))
    lines = [*body_of(build()).splitlines(), *body_of(build()).splitlines()]
    assert len({parse_input(line).id for line in lines}) == 60


def test_checks_ask_about_visitors_that_have_posted() -> None:
    posted = {visitor(job("check"), number) for number in range(10)}
    asked = json.loads(body_of(requests(job("check", items=10), itertools.count())()))["visitors"]
    assert set(asked) == posted


CHUNKED = b"1\r\na\r\n0\r\n\r\n"
WHOLE_ANSWERS = [
    (b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\nX: y\r\n\r\n{}", 201, b"{}"),
    (b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", 200, b""),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKED, 200, CHUNKED),
]


@pytest.mark.parametrize(("data", "status", "body"), WHOLE_ANSWERS)
def test_an_answer_is_whole_at_its_last_byte_and_not_before(data: bytes, status: int, body: bytes) -> None:
    assert split_answer(bytearray(data)) == (status, body)
    for end in range(len(data)):
        assert split_answer(bytearray(data[:end])) is None


async def answered(asked: Job) -> Measured:
    """What is measured; on a machine so busy that nothing was answered meanwhile, for longer."""
    for seconds in (asked.seconds, 5.0, 60.0):
        found = await measure(msgspec.structs.replace(asked, seconds=seconds))
        if found.answers or found.unexpected:
            break
    return found


async def test_what_was_answered_is_counted_and_what_was_refused_is_told_apart(api: Api) -> None:  # noqa: F811
    port = int(api.url.rpartition(":")[2])
    good = await answered(job("event", key=api.publishable, port=port))
    assert good.answers == good.items > 0
    assert good.unexpected == {}
    assert 0 < good.p50_ms <= good.p99_ms
    assert msgspec.json.decode(good.sample)["site"] == SITE
    refused = await answered(job("event", key="pk_of_nobody", port=port))
    assert refused.answers == 0
    assert refused.unexpected["401"] > 0


async def test_a_server_that_is_not_there_is_an_error() -> None:
    with pytest.raises(OSError, match="Connect call failed"):
        await measure(job("event", port=free_port()))


def test_percentiles_are_values_that_were_measured() -> None:
    values = [float(n) for n in range(1, 101)]
    assert (percentile(values, 0.5), percentile(values, 0.99), percentile(values, 1)) == (50, 99, 100)
    assert percentile([7.0], 0.99) == 7.0
    assert percentile([], 0.5) == 0.0


def test_a_directory_without_a_ledger_is_no_benchmark(tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid, match="consent-ledger up"):
        run_bench(tmp_path, seconds=0.5, console=Console(file=io.StringIO()))


@pytest.mark.slow
def test_one_run_prints_rates_latencies_pgbench_ratio_and_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    # Little is asked for: what is looked at is the report, and other tests want the machine.
    for name, little in (
        ("FIRST_SECONDS", 0.5),
        ("PROVEN_MIN_SECONDS", 4.0),
        ("BATCH_LINES", 50),
        ("CHECK_VISITORS", 100),
    ):
        monkeypatch.setattr(f"ledger.bench.measure.{name}", little)
    console = Console(file=io.StringIO(), width=100)
    report = run_bench(None, seconds=1.0, console=console)
    assert set(report.events) == set(report.plain) == set(CONNECTIONS)
    assert all(report.plain[connections] > 0 for connections in CONNECTIONS)
    assert report.witnesses == 2
    measured = [*report.events.values(), report.proven, report.batch, report.reads, report.check]
    assert all(0 < one.p50_ms <= one.p99_ms and one.rate > 0 for one in measured)
    assert report.log_size > sum(one.answers for one in report.events.values()) + report.batch.items
    assert [memory.name for memory in report.memory] == ["server", "worker"]
    assert all(0 < memory.now_mb <= memory.peak_mb <= MEMORY_MAX_MB for memory in report.memory)
    assert isinstance(console.file, io.StringIO)
    printed = console.file.getvalue()
    for text in (
        "single events",
        "proven events",
        "2 witnesses",
        "batched events",
        "reads",
        "visitors checked",
        "pgbench",
        "memory of the",
    ):
        assert text in printed
