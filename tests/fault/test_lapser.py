"""Lapses on a running server: on the stream when the decision changes, and each once, though workers are killed."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import nats as nats_client
import psutil
import pytest
import pytest_asyncio

from ledger.config import Settings
from ledger.core.encoding import decode_time, encode_time
from ledger.core.stream import names
from ledger.embedded.nats import Nats
from ledger.provision import SiteCredentials
from ledger.vault import read_vault
from tests.harness import (
    Browser,
    Process,
    check_log,
    check_stream,
    check_verified,
    document,
    found,
    grant,
    new_visitor,
    now_ms,
    until,
)
from tests.openings import opened

VISITORS = 1_500
KILLS = 3


def version(site: str, name: str, *, effective_ms: int = 0, material: str = "false", marketing: str = "P12M") -> str:
    """The small document, for whose marketing there is a period of its own."""
    effective = encode_time(effective_ms) if effective_ms else "2026-01-01"
    plain = document(site, name, effective).decode()
    plain = plain.replace("/cookies}", f"/cookies, material: {material}}}")
    return plain.replace("marketing: {", f"marketing: {{renewAfter: {marketing}, ")


class Stream:
    """What a consumer of the site's stream has read, who never asks for a decision."""

    def __init__(self, messages: list[tuple[int, str, dict[str, Any]]]) -> None:
        self.messages = messages

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [payload for _, type_, payload in self.messages if type_ == kind]


async def read_stream(nats_url: str, site: SiteCredentials) -> Stream:
    """Every message of events so far."""
    client = await nats_client.connect(nats_url)
    try:
        js, stream = client.jetstream(), names(site.site).stream
        messages = []
        for seq in range(1, (await js.stream_info(stream)).state.last_seq + 1):
            message = await js.get_msg(stream, seq)
            headers = message.headers or {}
            if headers["ce-dataschema"].endswith(":event"):
                assert message.subject.endswith(headers["ce-type"].partition(".")[2])
                messages.append((seq, headers["ce-type"], json.loads(message.data or b"")))
        return Stream(messages)
    finally:
        await client.close()


@pytest_asyncio.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def publish(session: aiohttp.ClientSession, server: Process, site: SiteCredentials, body: str) -> int:
    url, headers = f"{server.url}/v1/sites/{site.site}/policy", {"Authorization": f"Bearer {site.secret}"}
    async with session.put(url, data=body, headers={**headers, "Content-Type": "application/yaml"}) as response:
        assert response.status in (200, 201), await response.text()
        seq: int = (await response.json())["seq"]
        return seq


@pytest.mark.slow
async def test_a_version_to_come_takes_effect_under_a_running_server_and_the_stream_tells_of_it(
    settings: Settings, nats: Nats, session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    site = await found(settings)
    async with Process(replace(settings, nats_url=nats.url), tmp_path) as server:
        browser = Browser(session, server.url, site)
        await publish(session, server, site, version(site.site, "1.1", marketing="PT3S"))
        visitors = [new_visitor() for _ in range(5)]
        seqs: dict[str, int] = {}
        for visitor in visitors:
            given = grant(
                visitor=visitor, policyVersion="1.1", decisions={"analytics": "granted", "marketing": "granted"}
            )
            answer = await browser.post(given)
            assert answer.status == 201, answer.json
            seqs[visitor] = answer.json["seq"]

        async def is_told(kind: str, count: int) -> bool:
            await check_stream(nats.url, settings, site)
            return len((await read_stream(nats.url, site)).of(kind)) >= count

        # A grant that is renewed every three seconds expires in front of us.
        await until(lambda: is_told("consent.expired", 5))
        for event in (await read_stream(nats.url, site)).of("consent.expired"):
            assert event["lapsed"] == {"marketing": seqs[event["visitor"]]}
            before, after = [
                (await browser.consent(event["visitor"], f"?at={moment}", secret=True)).json["decisions"]["marketing"]
                for moment in (just_before(event["occurredAt"]), event["occurredAt"])
            ]
            assert (before["decision"], before["validUntil"]) == ("granted", event["occurredAt"])
            assert (after["decision"], after["reason"]) == ("denied", "expired")

        # A version that is to come: granted until its moment, denied from then on, and the stream says so.
        effect_ms = now_ms() + 5_000
        await publish(
            session, server, site, version(site.site, "2.0", effective_ms=effect_ms, material="true", marketing="PT3S")
        )
        effect = encode_time(effect_ms)
        for visitor in visitors:
            now = (await browser.consent(visitor)).json["decisions"]["analytics"]
            assert now["decision"] == "granted" or now_ms() >= effect_ms
            assert now["decision"] == "denied" or now["validUntil"] == effect
        await until(lambda: is_told("consent.invalidated", 5))
        invalidated = (await read_stream(nats.url, site)).of("consent.invalidated")
        assert {event["visitor"]: event["lapsed"] for event in invalidated} == {
            visitor: {"analytics": seq} for visitor, seq in seqs.items()
        }
        assert len(invalidated) == 5
        assert {(event["occurredAt"], event["policyVersion"]) for event in invalidated} == {(effect, "2.0")}
        for visitor in visitors:
            moments = (just_before(effect), effect)
            answers = [(await browser.consent(visitor, f"?at={moment}", secret=True)).json for moment in moments]
            assert [each["decisions"]["analytics"]["reason"] for each in answers] == ["granted", "policy_changed"]
            assert (await browser.consent(visitor)).json["decisions"]["analytics"]["reason"] == "policy_changed"
        assert Counter(kind for _, kind, _ in (await read_stream(nats.url, site)).messages) == {
            "consent.given": 5,
            "consent.expired": 5,
            "consent.invalidated": 5,
        }
        history = (await browser.call("GET", "history", secret=True, consent_visitor=visitors[0])).json
        assert [item["event"]["type"] for item in history["events"]] == [
            "consent.given",
            "consent.expired",
            "consent.invalidated",
        ]
        await check_log(settings, site)
        await check_verified(settings, site, tmp_path / "bundle")


def just_before(time: str) -> str:
    return encode_time(decode_time(time) - 1)


@pytest.mark.slow
async def test_workers_that_are_killed_while_they_tell_tell_everything_once(
    settings: Settings, session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    site = await found(settings)
    async with Process(settings, tmp_path) as server:
        lines = "\n".join(json.dumps(grant(decisions={"analytics": "granted"})) for _ in range(VISITORS))
        url, headers = f"{server.url}/v1/sites/{site.site}/events:batch", {"Authorization": f"Bearer {site.secret}"}
        async with session.post(
            url, data=lines, headers={**headers, "Content-Type": "application/x-ndjson"}
        ) as response:
            answers = [json.loads(line) for line in (await response.text()).splitlines()]
        seqs = {answer["receipt"]["seq"] for answer in answers}
        assert len(seqs) == VISITORS
        await publish(session, server, site, version(site.site, "2.0", material="true"))
        connection = await asyncpg.connect(settings.database_url)
        vault = await read_vault(connection, 1, settings.masters)

        async def told() -> int:
            """Every visitor has given consent once; what else is said of one is told by the worker."""
            said: int = await connection.fetchval(
                "select count(*) from ledger.opening where visitor is not null and site_id = 1"
            )
            return said - VISITORS

        async def events() -> list[dict[str, Any]]:
            rows = await connection.fetch(
                "select e.entry, o.sealed from ledger.opening o join ledger.entry e using (site_id, seq) "
                "where o.visitor is not null and o.site_id = 1"
            )
            return [json.loads(opened(vault, row)["payload"]) for row in rows]

        async def more_than(count: int) -> bool:
            return await told() > count

        for _ in range(KILLS):
            so_far = await told()
            if so_far == VISITORS:
                break
            await until(lambda so_far=so_far: more_than(so_far))  # type: ignore[misc]
            kill_worker(server)
        await until(lambda: more_than(VISITORS - 1))
        await asyncio.sleep(3)  # whoever would tell anything twice has the time to do it
        stored = await events()
        await connection.close()
        ended = Counter(event["lapsed"]["analytics"] for event in stored if event["type"] == "consent.invalidated")
        assert ended == Counter(seqs)
        await check_log(settings, site)
        await check_verified(settings, site, tmp_path / "bundle")


def kill_worker(server: Process) -> None:
    """SIGKILL to the worker; the HTTP process starts another."""
    child = server._server.child
    assert child is not None
    for process in psutil.Process(child.pid).children():
        if "worker" in process.cmdline():
            process.kill()
