"""kill -9 at every step of an erasure: the next one completes it, and at no moment anything is half erased."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import aiohttp
import msgspec
import pytest

from ledger.administration import Who
from ledger.app import open_service
from ledger.config import Settings
from ledger.core.event import parse_input
from ledger.embedded.nats import Nats
from ledger.erasing.messages import ErasureInput
from ledger.recording import Principal
from ledger.service import Service
from ledger.site import Site
from tests.harness import (
    Browser,
    Process,
    check_log,
    check_stream,
    check_verified,
    found,
    grant,
    new_visitor,
    refusal,
    until,
)

# Carries out what waits, with entries of four events at most, and ends itself at the step that it is told.
VICTIM = """
import asyncio, os, signal, sys
import ledger.sequencer
from ledger.administration import Administration
from ledger.app import open_service
from ledger.config import load_settings
from ledger.core.erasing import shares
from ledger.erasing import eraser, store

left = int(sys.argv[2])

def step():
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)

def dying(call):
    async def wrapped(*arguments, **members):
        step()
        answer = await call(*arguments, **members)
        step()
        return answer
    return wrapped

async def main():
    settings = load_settings()
    async with open_service(settings) as service:
        site = await service.site(sys.argv[1])
        Administration.record = dying(Administration.record)
        eraser.append_erasure = dying(eraser.append_erasure)
        ledger.sequencer.append_one = dying(ledger.sequencer.append_one)
        store.end = dying(store.end)
        eraser.shares = lambda plans: shares(plans, limit=4)
        await eraser.Eraser(settings, service.reads.pool).carry_out(service.sites, site)

asyncio.run(main())
"""
STEPS = (1, 2, 4, 5, 6)
"""Before and after the act is recorded, before and after the transaction, and once its outcome is known."""


async def post(service: Service, site: Site, event: dict[str, object]) -> int:
    principal = Principal(site.site_id, "publishable", frozenset({"events"}))
    return (await service.record(site, parse_input(msgspec.json.encode(event)), principal)).receipt.seq


async def victim(settings: Settings, site: str, step: int) -> int:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("LEDGER_")}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-c", VICTIM, site, str(step)), env={**environ, **settings.environment()}
    )
    return await process.wait()


@pytest.mark.slow
async def test_an_erasure_that_is_killed_at_any_step_is_completed_and_never_half_done(settings: Settings) -> None:
    credentials = await found(settings)
    async with open_service(settings) as service:
        site = await service.site(credentials.site)
        ordered: dict[str, set[int]] = {}
        for step in (*STEPS, 0):
            for _ in range(2):
                visitor = new_visitor()
                seqs = {await post(service, site, make(visitor=visitor)) for make in (grant, refusal, grant)}
                request = ErasureInput("subject_request", "DSR-7", visitor)
                status = await service.erasures.order(site, request, Who("counsel", "controller"))
                ordered[status.id] = seqs
            code = await victim(settings, site.site, step)
            assert code == (-signal.SIGKILL if step else 0), step
            await check_log(settings, credentials)  # a payload is gone if, and only if, an erasure entry names it
            if step == 0:
                continue
            waiting = await service.reads.pool.fetchval("select count(*) from ledger.erasure where status = 'pending'")
            assert waiting > 0
        rows = await service.reads.pool.fetch("select seq from ledger.erased where site_id = $1", site.site_id)
        assert {row["seq"] for row in rows} == set().union(*ordered.values())
        for erasure, seqs in ordered.items():
            told = await service.erasures.status(site, erasure)
            assert (told.state, told.events, sum(entry.events for entry in told.entries)) == ("erased", 3, len(seqs))
        named = await service.reads.pool.fetchval("select count(distinct by_seq) from ledger.erased")
        entries = await service.reads.pool.fetchval(
            "select count(*) from ledger.entry where site_id = $1 and ledger.entry_kind(entry) = 3", site.site_id
        )
        assert named == entries


@pytest.mark.slow
async def test_a_running_server_forgets_and_the_audit_passes(settings: Settings, nats: Nats, tmp_path: Path) -> None:
    site = await found(settings)
    server = Process(replace(settings, nats_url=nats.url), tmp_path)
    async with server, aiohttp.ClientSession() as session:
        browser = Browser(session, server.url, site)
        visitor, event = new_visitor(), grant()
        event["visitor"] = visitor
        for each in (event, refusal(visitor=visitor), grant(), refusal()):
            assert (await browser.post(each)).status == 201
        asked = {"visitor": visitor, "reason": "subject_request", "instruction": "DSR-7"}
        assert (await browser.call("POST", "erasures", asked)).status == 403
        assert (await browser.call("POST", "erasures", asked | {"visitor": "short"}, secret=True)).status == 422
        ordered = await browser.call("POST", "erasures", asked, secret=True)
        assert (ordered.status, ordered.json["state"]) == (202, "pending")
        assert (await browser.post(refusal(visitor=visitor))).status == 410
        told = ordered

        async def erased() -> bool:
            nonlocal told
            told = await browser.call("GET", ordered.headers["Location"], secret=True)
            return bool(told.json["state"] == "erased")

        await until(erased)
        assert (told.json["events"], len(told.json["entries"])) == (2, 1)
        answer = await browser.consent(visitor)
        assert (answer.status, answer.json["erased"]) == (200, True)
        assert (await browser.post(event)).status == 410
        assert (await browser.call("GET", f"receipts/{event['id']}", secret=True)).status == 410
        assert (await browser.call("POST", f"{ordered.headers['Location']}/lift", asked, secret=True)).status == 422
        lift = {"instruction": "DSR-8"}
        assert (await browser.call("POST", f"{ordered.headers['Location']}/lift", lift, secret=True)).status == 409
        await check_log(settings, site)
        await check_stream(nats.url, settings, site)
        await check_verified(settings, site, tmp_path / "bundle")
