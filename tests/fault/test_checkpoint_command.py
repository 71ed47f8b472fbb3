"""What an operator does where the checkpointer refuses: look, and put a lost record back after everything is judged."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio
from click.testing import CliRunner, Result

from ledger import cli
from ledger.bus import Bus
from ledger.config import Settings
from ledger.core.agreement import ANCHOR, DATABASE, NATS
from tests.conftest import Database
from tests.fault.checkpoints import Site, founded_site
from tests.fault.streams import Broker
from tests.fault.test_checkpointer import by_log_key, lose, put, records, refusal
from tests.founding import SITE

Run = Callable[..., Awaitable[Result]]


@pytest.fixture
def run() -> Run:
    """The command, in a thread of its own as it brings its own loop."""

    async def command(site: Site, *arguments: str, stdin: str = "") -> Result:
        def invoke() -> Result:
            return CliRunner().invoke(
                cli.main, ["checkpoint", *arguments], env=site.settings.environment(), input=stdin
            )

        return await asyncio.to_thread(invoke)

    return command


@pytest_asyncio.fixture
async def site(settings: Settings, tmp_path: Path) -> AsyncIterator[Site]:
    broker = Broker(tmp_path / "nats")
    await broker.start()
    site = await founded_site(replace(settings, nats_url=broker.url))
    await site.grow(300)
    await site.round()
    yield site
    await broker.stop()


@pytest.mark.parametrize("place", [NATS, ANCHOR, DATABASE])
async def test_a_lost_record_is_put_back_and_the_signing_goes_on(
    site: Site, run: Run, place: str, database: Database
) -> None:
    await lose(site, place, database)
    await site.grow(5)
    assert (await refusal(site)).reason == f"{place}-lost"
    declined = await run(site, "restore-record", SITE, "--to", place, stdin="n\n")
    assert declined.exit_code == 1
    assert (await records(site))[place] == 0
    done = await run(site, "restore-record", SITE, "--to", place, "--yes")
    assert done.exit_code == 0, done.output
    assert "size 302" in done.output
    assert (await records(site))[place] == 302
    assert (await site.round()).signed
    assert await records(site) == dict.fromkeys((NATS, ANCHOR, DATABASE), 307)
    await site.signed()


async def test_records_of_two_places_are_put_back_one_after_the_other(site: Site, run: Run) -> None:
    await lose(site, NATS, Database("", ""))
    await lose(site, ANCHOR, Database("", ""))
    site.memory.unlink()
    for place in (ANCHOR, NATS):
        assert (await run(site, "restore-record", SITE, "--to", place, "--yes")).exit_code == 0
    assert (await site.round()).size == 302


async def test_nothing_is_put_back_where_nothing_is_lost_or_somebody_disagrees(
    site: Site, run: Run, database: Database
) -> None:
    whole = await run(site, "restore-record", SITE, "--to", NATS, "--yes")
    assert whole.exit_code == 2
    assert "nothing to put back" in whole.output
    await lose(site, ANCHOR, database)
    await put(site, NATS, by_log_key(site, 302, bytes(32)), database)
    refused = await run(site, "restore-record", SITE, "--to", ANCHOR, "--yes")
    assert refused.exit_code == 2
    assert "another root" in refused.output
    assert (await records(site))[ANCHOR] == 0


async def test_nothing_is_put_back_over_a_log_that_breaks_a_rule(site: Site, run: Run, database: Database) -> None:
    await lose(site, ANCHOR, database)
    await site.execute("delete from ledger.opening where seq = 7", admin_url=database.admin_url)
    refused = await run(site, "restore-record", SITE, "--to", ANCHOR, "--yes")
    assert refused.exit_code == 2
    assert "rule-12" in refused.output


async def test_status_tells_what_each_place_knows_while_a_worker_holds_the_memory(site: Site, run: Run) -> None:
    async with site.checkpointer() as checkpointer:
        await checkpointer.round()
        shown = await run(site, "status", SITE, "--json")
        assert shown.exit_code == 0, shown.output
        answer = json.loads(shown.output)
        assert answer["places"] == dict.fromkeys((NATS, ANCHOR, DATABASE), "agrees, size 302")
        assert (answer["log"], answer["size"], answer["logSize"]) == ("sound", 302, 302)
        bus = await Bus.connect(site.settings.nats_url)
        await bus.delete_stream("KV_consent-ledger")
        await bus.close()
        assert "has no record" in (await run(site, "status", SITE)).output
