"""The measurements, one after the other, against one ledger: never two at once, so that none disturbs another."""

from __future__ import annotations

import asyncio
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import asyncpg
import msgspec
import nats

from ledger.bench.baseline import baseline
from ledger.bench.stack import Memory, server_memory
from ledger.bench.workload import POSTING, Call, Job, Measured, new_run
from ledger.core.encoding import decode_base64
from ledger.core.errors import ConfigInvalid
from ledger.core.stream import names
from ledger.core.tlog_proof import parse_proof
from ledger.credentials import Credentials, find_access, read_credentials
from ledger.embedded.installation import DataDirectory
from ledger.messages import CheckResults, Consent, Receipt
from ledger.simulate.run import look_at_site
from ledger.witness.policy import read_policy

SITE = "weco.nexaxt.com"
CONNECTIONS = (1, 16, 64)
PROVEN_CONNECTIONS, PROVEN_MIN_SECONDS = 64, 10.0
BATCH_CONNECTIONS, BATCH_LINES = 4, 250
READ_CONNECTIONS = 16
CHECK_CONNECTIONS, CHECK_VISITORS = 4, 1_000
WARM_UP_SECONDS = 0.5
FIRST_SECONDS = 2.0
PROVEN_LEAD_SECONDS = 1.0
CATCH_UP_SECONDS = 60.0
CATCH_UP_PAUSE_SECONDS = 0.1
ANSWER_TIMEOUT_SECONDS = 120.0
"""Beyond a measurement's own time: the generator bounds connecting and its last answers, this bounds the rest."""
GENERATOR = "ledger.bench.load"

_POSITIONS = """
select (select max(e.seq) from ledger.entry e where e.site_id = s.site_id) as last,
       (select p.position from ledger.projection p where p.site_id = s.site_id and p.live) as folded
  from ledger.site s where s.site = $1
"""


class Lag(NamedTuple):
    """How many entries the copies were behind the log, and the seconds until they were not."""

    stream: int
    projection: int
    seconds: float


class Report(NamedTuple):
    """Everything from one run. `events` and `plain`, pgbench's rate, are by connections."""

    payload_bytes: int
    events: dict[int, Measured]
    plain: dict[int, float]
    proven: Measured
    witnesses: int
    lag: Lag
    batch: Measured
    reads: Measured
    check: Measured
    memory: list[Memory]
    log_size: int

    def ratio(self, connections: int) -> float:
        """The ledger's single-event rate over pgbench's."""
        return self.events[connections].rate / self.plain[connections]


class _Generator:
    """The load generator's process. Every event of a run gets a number of its own."""

    def __init__(self, process: subprocess.Popen[bytes], job: Job) -> None:
        self._process = process
        self._job = job

    def measure(self, call: Call, key: str, connections: int, seconds: float, items: int = 1) -> Measured:
        """`ConfigInvalid` where an answer is not the expected one, or none comes."""
        job = msgspec.structs.replace(
            self._job, call=call, key=key, connections=connections, seconds=seconds, items=items
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(msgspec.json.encode(job) + b"\n")
        self._process.stdin.flush()
        # One line a job, so nothing is left in the reader's buffer that `select` would not see.
        if not select.select([self._process.stdout], [], [], seconds + ANSWER_TIMEOUT_SECONDS)[0]:
            raise ConfigInvalid(f"{call}: the load generator does not come to an end: is the machine overloaded?")
        line = self._process.stdout.readline()
        if not line:
            raise ConfigInvalid("the load generator ended: the server cannot be reached")
        measured = msgspec.json.decode(line, type=Measured)
        if measured.unexpected or not measured.answers:
            raise ConfigInvalid(f"{call}: unexpected answers {measured.unexpected}: {measured.sample[:500]}")
        if call in POSTING:
            self._job = msgspec.structs.replace(self._job, first=measured.next_number)
        return measured


def measure(data: Path, seconds: float, tell: Callable[[str], None]) -> Report:
    """Measure the ledger of a running `up`, each thing for `seconds`; `tell` is told what is being measured."""
    access = find_access(SITE, data, {})
    credentials = read_credentials(data)
    with _generator(_first_job(data)) as generator:
        tell("warming up")
        first = generator.measure("event", access.publishable, CONNECTIONS[-1], FIRST_SECONDS)
        payload_bytes = len(decode_base64(msgspec.json.decode(first.sample, type=Receipt).payload))
        events, plain = {}, {}
        with baseline(DataDirectory(data).admin_database_url(), payload_bytes) as inserts:
            for connections in CONNECTIONS:
                tell(f"pgbench with {connections} clients")
                plain[connections] = inserts.rate(connections, seconds)
                tell(f"single events on {connections} connections")
                events[connections] = generator.measure("event", access.publishable, connections, seconds)
        tell("waiting for stream and projection")
        lag = asyncio.run(_caught_up(credentials))
        tell("events until a checkpoint covers them")
        proven = _measure_proven(generator, data, access.publishable, max(seconds, PROVEN_MIN_SECONDS))
        witnesses = _look_at_proof(proven, data)
        tell("batches")
        batch = generator.measure("batch", access.secret, BATCH_CONNECTIONS, seconds, BATCH_LINES)
        if (accepted := batch.sample.count('"status":201')) != BATCH_LINES:
            raise ConfigInvalid(f"of a batch of {BATCH_LINES} events {accepted} were accepted")
        tell("waiting for stream and projection")
        asyncio.run(_caught_up(credentials))
        tell("reads")
        reads = generator.measure("read", access.publishable, READ_CONNECTIONS, seconds)
        tell("bulk checks")
        check = generator.measure("check", access.secret, CHECK_CONNECTIONS, seconds, CHECK_VISITORS)
    _look_at_samples(reads, check)
    log_size = asyncio.run(_log_size(credentials))
    return Report(
        payload_bytes, events, plain, proven, witnesses, lag, batch, reads, check, server_memory(data), log_size
    )


def _first_job(data: Path) -> Job:
    access = find_access(SITE, data, {})
    view = asyncio.run(look_at_site(access))
    address = urlsplit(access.base_url)
    run, now_ms = new_run()
    return Job(
        call="event",
        host=address.hostname or "",
        port=address.port or 80,
        site=access.site,
        key="",
        version=view.version,
        purposes=view.optional,
        run=run,
        now_ms=now_ms,
        first=0,  # every visitor below has posted: reads and checks begin with the first
        connections=1,
        seconds=0,
        warm_up_seconds=WARM_UP_SECONDS,
    )


@contextmanager
def _generator(job: Job) -> Iterator[_Generator]:
    command = [sys.executable, "-P", "-m", GENERATOR]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        yield _Generator(process, job)
    finally:
        process.kill()
        process.communicate()


def _measure_proven(generator: _Generator, data: Path, key: str, seconds: float) -> Measured:
    """Events that wait for their checkpoint, beside one connection that posts as fast as it is answered."""
    beside = msgspec.structs.replace(_first_job(data), call="event", key=key, seconds=seconds)
    with _generator(beside) as load, ThreadPoolExecutor(1) as thread:
        loading = thread.submit(load.measure, "event", key, 1, seconds + PROVEN_LEAD_SECONDS)
        time.sleep(PROVEN_LEAD_SECONDS)
        proven = generator.measure("proven", key, PROVEN_CONNECTIONS, seconds)
        loading.result()
    return proven


def _look_at_proof(proven: Measured, data: Path) -> int:
    """How many witnesses cosigned what a client got; `ConfigInvalid` unless it is a proof with its quorum."""
    receipt = msgspec.json.decode(proven.sample, type=Receipt)
    if receipt.proof is None:
        raise ConfigInvalid("no checkpoint covered an event in time: is the worker running, and every witness?")
    proof = parse_proof(receipt.proof.encode())
    proof.check(decode_base64(receipt.leaf_hash))
    policy = read_policy(DataDirectory(data).settings().witness_policy)
    if not policy.accepts(proof.checkpoint):
        raise ConfigInvalid("an answer came under a checkpoint without its quorum of witnesses")
    return len(policy.cosigners(proof.checkpoint))


def _look_at_samples(reads: Measured, check: Measured) -> None:
    """The rates say nothing if the answers are wrong: everybody in this benchmark granted the first purpose."""
    consent = msgspec.json.decode(reads.sample, type=Consent)
    told = [answer.decision for answer in consent.decisions.values() if answer.reason != "not_required"]
    results = msgspec.json.decode(check.sample, type=CheckResults).results
    checked = [next(iter(answers.values())).decision for answers in results.values()]
    if "granted" not in told or set(checked) != {"granted"} or len(checked) != CHECK_VISITORS:
        raise ConfigInvalid(f"the answers are wrong: {told} and {len(checked)} of {set(checked)}")


async def _caught_up(credentials: Credentials) -> Lag:
    """How far the copies were behind, once they are not any more; `ConfigInvalid` if that takes too long."""
    started = time.monotonic()
    connection = await asyncpg.connect(credentials.database_url)
    bus = await nats.connect(credentials.nats_url)
    try:
        first: tuple[int, int] | None = None
        while True:
            row = await connection.fetchrow(_POSITIONS, SITE)
            published = (await bus.jetstream().stream_info(names(SITE).stream)).state.last_seq
            behind = (row["last"] - published, row["last"] - (row["folded"] or 0))
            first = first or behind
            seconds = time.monotonic() - started
            if max(behind) <= 0:
                return Lag(*first, seconds)
            if seconds > CATCH_UP_SECONDS:
                raise ConfigInvalid(f"stream and projection are still {behind} entries behind after {seconds:.0f} s")
            await asyncio.sleep(CATCH_UP_PAUSE_SECONDS)
    finally:
        await bus.close()
        await connection.close()


async def _log_size(credentials: Credentials) -> int:
    connection = await asyncpg.connect(credentials.database_url)
    try:
        row = await connection.fetchrow(_POSITIONS, SITE)
        return int(row["last"]) + 1
    finally:
        await connection.close()
