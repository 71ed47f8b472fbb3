"""A witness process that is killed at the worst moments, or whose clock went back, never makes a second history.

The database is reached from outside to make a moment long: a trigger that counts for minutes holds the process between
its decision and its commit.
"""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random

import aiohttp
import psutil
import pytest

from ledger.core.errors import WitnessAhead, WitnessConflict, WitnessUnreachable
from ledger.core.note import TYPE_COSIGNATURE, parse_any_checkpoint, parse_vkey
from ledger.core.quorum import WitnessEntry
from ledger.core.witnessing import origin_path
from ledger.witness.client import WitnessClient
from tests.fault.keys import auditor
from tests.harness import until
from tests.witnesses import ORIGIN, TreeLog, WitnessProcess, command

LOG = TreeLog()
NAME = "witness.example.org/w1"

STALL = """
create trigger stall before update on witness begin
    select count(*) from (
        with recursive numbers(n) as (select 1 union all select n + 1 from numbers where n < 10000000000)
        select n from numbers);
end
"""


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
async def witness(tmp_path: Path) -> AsyncIterator[WitnessProcess]:
    made = await WitnessProcess.create(tmp_path / "w", NAME, LOG.vkey)
    async with made:
        yield made


def client_of(witness: WitnessProcess, http: aiohttp.ClientSession) -> WitnessClient:
    return WitnessClient(http, WitnessEntry("w1", witness.vkey, witness.url), timeout_seconds=60)


@contextmanager
def database(witness: WitnessProcess) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(witness.directory / "witness.sqlite", isolation_level=None)
    try:
        yield connection
    finally:
        connection.close()


def held_size(witness: WitnessProcess) -> int:
    with database(witness) as connection:
        row = connection.execute("select size from head").fetchone()
        return 0 if row is None else row[0]


async def test_killed_between_its_check_and_its_commit_it_has_cosigned_nothing(
    witness: WitnessProcess, http: aiohttp.ClientSession
) -> None:
    client = client_of(witness, http)
    await client.cosign(LOG.checkpoint(5), LOG.prove)
    with database(witness) as connection:
        connection.execute(STALL)
    offering = asyncio.create_task(client.cosign(LOG.checkpoint(8), LOG.prove))
    process = psutil.Process(witness.pid)
    before = sum(process.cpu_times()[:2])

    async def is_inside() -> bool:
        assert not offering.done()
        return sum(process.cpu_times()[:2]) - before > 0.5  # it counts: the decision is made, the head replaced

    await until(is_inside)
    await witness.kill()
    with pytest.raises(WitnessUnreachable):
        await offering
    assert held_size(witness) == 5
    with database(witness) as connection:
        connection.execute("drop trigger stall")
    await witness.start()
    forked = TreeLog(fork="another history", shared=5)
    await client.cosign(forked.checkpoint(7), forked.prove)  # nothing of the other one ever left
    with pytest.raises(WitnessConflict):
        await client.cosign(LOG.checkpoint(8), LOG.prove)


@pytest.mark.slow
async def test_killed_at_any_moment_it_never_cosigns_two_histories(
    witness: WitnessProcess, http: aiohttp.ClientSession
) -> None:
    """Two rival histories are offered all the while; all that ever left must lie on one line."""
    random = Random(1)
    rivals = [TreeLog(fork=str(i), shared=3) for i in range(3)]
    cosigned: dict[int, set[bytes]] = {}
    greatest = 0

    async def press(log: TreeLog, stop: asyncio.Event) -> None:
        client = client_of(witness, http)
        size = 3
        while not stop.is_set():
            size = max(size, client.known_size(ORIGIN) or 0) + 1
            with suppress(WitnessUnreachable, WitnessConflict, WitnessAhead):
                await client.cosign(log.checkpoint(size), log.prove)
                cosigned.setdefault(size, set()).add(log.head(size).root)
            await asyncio.sleep(0)

    for _ in range(6):
        stop = asyncio.Event()
        pressing = [asyncio.create_task(press(log, stop)) for log in rivals]
        count = len(cosigned)

        async def moves(count: int = count) -> bool:
            return len(cosigned) > count + 5

        await until(moves)
        await asyncio.sleep(random.random() * 0.2)
        await witness.kill()
        stop.set()
        await asyncio.gather(*pressing)
        greatest = max(cosigned)
        assert held_size(witness) >= greatest, "a cosignature left before its record was on the disk"
        await witness.start()
    assert len(cosigned) > 30
    winners = [log for log in rivals if cosigned[greatest] == {log.head(greatest).root}]
    assert len(winners) == 1
    assert {size: {winners[0].head(size).root} for size in cosigned} == cosigned


async def test_a_clock_set_far_back_stops_it_and_its_log_says_so(
    witness: WitnessProcess, http: aiohttp.ClientSession
) -> None:
    client = client_of(witness, http)
    await client.cosign(LOG.checkpoint(5), LOG.prove)
    ahead = int(time.time()) + 7200
    with database(witness) as connection:  # as if it had cosigned while the clock stood two hours ahead
        connection.execute("update witness set last_cosigned_at = ?", (ahead,))
    with pytest.raises(WitnessUnreachable, match="503") as caught:
        await client.cosign(LOG.checkpoint(8), LOG.prove)
    assert not caught.value.permanent
    assert "the clock of this witness stands" in witness.log
    await witness.stop()
    await witness.start()
    assert "nothing is cosigned until it is set" in witness.log
    with database(witness) as connection:
        connection.execute("update witness set last_cosigned_at = ?", (int(time.time()) + 20,))
        at = connection.execute("select last_cosigned_at from witness").fetchone()[0]
    signature = await client.cosign(LOG.checkpoint(8), LOG.prove)
    assert int.from_bytes(signature.value[:8], "big") >= at


async def test_it_stops_when_it_is_told_and_answers_what_was_under_way(
    witness: WitnessProcess, http: aiohttp.ClientSession
) -> None:
    client = client_of(witness, http)
    with database(witness) as connection:
        connection.execute("begin immediate")
        offering = asyncio.create_task(client.cosign(LOG.checkpoint(5), LOG.prove))

        async def is_waiting() -> bool:
            try:
                async with http.get(f"{witness.url}/healthz", timeout=aiohttp.ClientTimeout(total=0.3)):
                    return False
            except TimeoutError:
                return True  # its one thread waits for the lock

        await until(is_waiting)
        witness.send(signal.SIGTERM)
        connection.execute("rollback")
    assert await offering
    assert await witness.ended() == 0
    assert held_size(witness) == 5


async def test_the_commands_tell_an_auditor_what_there_is(witness: WitnessProcess, http: aiohttp.ClientSession) -> None:
    client = client_of(witness, http)
    await client.cosign(LOG.checkpoint(5), LOG.prove)
    code, said = await command("list", witness.directory)
    assert code == 0
    assert str(witness.vkey) in said
    assert f"{LOG.vkey}\t5 entries at 2" in said
    assert await command("evidence", witness.directory) == (0, "no evidence against any log\n")
    forked = TreeLog(fork="another history", shared=3)
    with pytest.raises(WitnessConflict):
        await client.cosign(forked.checkpoint(5), forked.prove)
    code, said = await command("evidence", witness.directory)
    assert code == 1
    assert LOG.checkpoint(5).encode().decode() in said
    assert forked.checkpoint(5).encode().decode() in said
    code, said = await command("evidence", witness.directory, "--json")
    assert code == 1
    assert '"kind": "two-heads"' in said
    code, _ = await command("remove-log", witness.directory, str(LOG.vkey))
    assert code == 0
    with pytest.raises(WitnessUnreachable, match="404") as caught:
        await client.cosign(LOG.checkpoint(8), LOG.prove)
    assert caught.value.permanent
    code, said = await command("init", witness.directory.parent / "second", "--name", "witness.example.org/w2")
    assert code == 0
    vkey = parse_vkey(said.splitlines()[0].removeprefix("vkey    "), TYPE_COSIGNATURE)
    assert f"policy  witness {vkey.name} {vkey} URL\n" in said
    code, said = await command("add-log", witness.directory.parent / "second", str(LOG.vkey))
    assert (code, said) == (0, f"{LOG.vkey.name}: trusted\n")
    for wrong in (
        ("init", witness.directory, "--name", NAME),
        ("init", witness.directory.parent / "x", "--name", "a b"),
        ("add-log", witness.directory, "nonsense"),
        ("add-log", witness.directory, str(witness.vkey)),
        ("remove-log", witness.directory, str(LOG.vkey)),
        ("list", witness.directory.parent / "nothing"),
    ):
        code, said = await command(*wrong)
        assert code == 2, wrong
        assert said.startswith("Error: "), said
    code, said = await auditor("witness", "run", witness.directory, "--port", witness.url.rpartition(":")[2])
    assert (code, said.startswith("Error: ")) == (2, True), said
    async with http.get(witness.url + origin_path(ORIGIN)) as response:
        assert parse_any_checkpoint(await response.read()).size == 5
