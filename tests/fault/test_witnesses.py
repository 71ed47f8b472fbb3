"""A log and its witnesses, each a process: the quorum is reached under load, and a witness in trouble stops no log."""

from __future__ import annotations

import json
import re
import shutil
import signal
from collections.abc import AsyncIterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import asyncpg
import pytest
import pytest_asyncio

from ledger import config
from ledger.config import Settings
from ledger.core.encoding import decode_base64
from ledger.core.errors import Unavailable
from ledger.core.merkle import check_consistency, consistency_proof, leaf_hash, root_of, subtrees_of
from ledger.core.note import TYPE_ED25519, Checkpoint, VerifierKey, parse_checkpoint, parse_vkey, sign_checkpoint
from ledger.core.quorum import TrustPolicy, parse_policy
from ledger.core.tlog_proof import parse_proof
from ledger.core.witnessing import Offer
from ledger.keys.files import log_keys
from ledger.provision import SiteCredentials
from tests.harness import Browser, Load, Process, found, grant, new_site_name, until
from tests.witnesses import WitnessProcess, command, found_witnessed, policy_text

pytestmark = pytest.mark.slow

_STATE = """
select c.state, c.reason, c.detail, c.witnesses, p.size, p.cosigned
  from ledger.site s join ledger.checkpointer c using (site_id)
  left join lateral (
      select * from ledger.checkpoint p where p.site_id = s.site_id order by p.size desc limit 1) p on true
 where s.site = $1
"""


class Watched(NamedTuple):
    """A running ledger with one site, and the two witnesses of its policy."""

    settings: Settings
    site: SiteCredentials
    server: Process
    witnesses: tuple[WitnessProcess, WitnessProcess]
    policy: TrustPolicy
    browser: Browser
    http: aiohttp.ClientSession

    @property
    def vkey(self) -> VerifierKey:
        return parse_vkey(self.site.log_vkey, TYPE_ED25519)

    async def served(self) -> Checkpoint:
        async with self.http.get(f"{self.server.url}/logs/{self.site.site}/checkpoint") as response:
            assert response.status == 200
            checkpoint = parse_checkpoint(await response.read())
        assert checkpoint.signed_by(self.vkey)
        return checkpoint

    async def cosigned_beyond(self, size: int) -> None:
        """Wait until a checkpoint of more than this size is served with its quorum."""

        async def is_there() -> bool:
            checkpoint = await self.served()
            return checkpoint.size > size and self.policy.accepts(checkpoint)

        await until(is_there)

    async def state(self) -> dict[str, Any]:
        connection = await asyncpg.connect(self.settings.database_url)
        try:
            row = await connection.fetchrow(_STATE, self.site.site)
        finally:
            await connection.close()
        assert row is not None
        return {**row, "witnesses": {each["name"]: each for each in json.loads(row["witnesses"])}}


@pytest_asyncio.fixture
async def watched(settings: Settings, tmp_path: Path) -> AsyncIterator[Watched]:
    """Both witnesses are the quorum."""
    one, two = [await WitnessProcess.create(tmp_path / f"w{i}", f"witness.example.org/w{i}") for i in (1, 2)]
    async with one, two, aiohttp.ClientSession() as http:
        policy = tmp_path / "policy"
        policy.write_text(policy_text("all", one, two))
        settings = replace(settings, witness_policy=policy)
        site = await found_witnessed(settings, one, two)
        async with Process(settings, tmp_path) as server:
            browser = Browser(http, server.url, site)
            yield Watched(settings, site, server, (one, two), parse_policy(policy.read_text()), browser, http)


async def test_under_load_every_checkpoint_that_is_waited_for_has_its_quorum_and_continues_the_last(
    watched: Watched,
) -> None:
    proofs = []
    async with Load([watched.server.url], watched.site) as load:
        for _ in range(5):
            await load.more(50)
            reply = await watched.browser.call("POST", "events?wait=checkpoint", grant())
            assert reply.status == 201
            proof = parse_proof(reply.json["proof"].encode())
            proof.check(decode_base64(reply.json["leafHash"]))
            proofs.append(proof)
    for proof in proofs:
        assert proof.checkpoint.signed_by(watched.vkey)
        assert len(watched.policy.cosigners(proof.checkpoint)) == 2
    assert len({proof.checkpoint.size for proof in proofs}) == 5
    await watched.cosigned_beyond(len(load.receipts))
    for older, newer in pairwise(proofs):
        old, new = older.checkpoint, newer.checkpoint
        url = f"{watched.server.url}/logs/{watched.site.site}/consistency?old={old.size}&new={new.size}"
        async with watched.http.get(url) as response:
            assert response.status == 200
            answer = await response.json()
        check_consistency(old.size, new.size, [decode_base64(node) for node in answer["proof"]], old.root, new.root)


@pytest.mark.parametrize("trouble", [signal.SIGKILL, signal.SIGSTOP])
async def test_a_witness_that_is_gone_or_asleep_stops_no_log_and_its_state_is_shown(
    watched: Watched, trouble: signal.Signals
) -> None:
    sick = watched.witnesses[1]
    await watched.cosigned_beyond(0)
    sick.send(trouble)
    async with Load([watched.server.url], watched.site, clients=2) as load:
        before = (await watched.served()).size
        await load.more(20)

        async def is_served_without_it() -> bool:
            await load.more(1)
            checkpoint = await watched.served()
            return checkpoint.size > before + 20 and len(watched.policy.cosigners(checkpoint)) == 1

        await until(is_served_without_it)

        async def is_shown() -> bool:
            state = await watched.state()
            assert state["state"] == "signing"
            return bool(state["witnesses"]["w1"]["trouble"]) and not state["witnesses"]["w0"]["trouble"]

        await until(is_shown)
        if trouble == signal.SIGKILL:
            await sick.ended()
            await sick.start()
        else:
            sick.send(signal.SIGCONT)
        await watched.cosigned_beyond((await watched.served()).size)

    async def is_well() -> bool:
        return not (await watched.state())["witnesses"]["w1"]["trouble"]

    await until(is_well)


async def test_a_witness_that_was_put_back_to_an_older_state_is_caught_up_with(
    watched: Watched, tmp_path: Path
) -> None:
    old = watched.witnesses[1]
    await watched.cosigned_beyond(0)
    await old.stop()
    shutil.copytree(old.directory, tmp_path / "copy")
    await old.start()
    assert (await watched.browser.call("POST", "events?wait=checkpoint", grant())).status == 201
    await old.stop()
    shutil.rmtree(old.directory)
    shutil.copytree(tmp_path / "copy", old.directory)
    await old.start()
    size = (await watched.served()).size
    assert (await watched.browser.call("POST", "events", grant())).status == 201
    await watched.cosigned_beyond(size)


async def test_a_witness_that_has_seen_a_longer_log_signed_with_our_key_stops_the_signing(watched: Watched) -> None:
    """As after a database that was put back: what our key signed beyond it, the witness alone remembers."""
    await watched.cosigned_beyond(0)
    connection = await asyncpg.connect(watched.settings.database_url)
    entries = await connection.fetch(
        "select e.entry from ledger.entry e join ledger.site s using (site_id) where s.site = $1 order by e.seq",
        watched.site.site,
    )
    await connection.close()
    leaves = [leaf_hash(row["entry"]) for row in entries]
    await watched.cosigned_beyond(len(leaves) - 1)
    lost = [*leaves, *(bytes([i]) * 32 for i in range(50))]
    (key,) = log_keys(watched.settings, watched.site.site)
    beyond = sign_checkpoint(Checkpoint(watched.vkey.name, len(lost), root_of(lost)), watched.vkey, key)
    offer = Offer(len(leaves), tuple(consistency_proof(len(leaves), len(lost), subtrees_of(lost))), beyond)
    async with watched.http.post(f"{watched.witnesses[1].url}/add-checkpoint", data=offer.encode()) as response:
        assert response.status == 200

    assert (await watched.browser.call("POST", "events", grant())).status == 201

    async def is_refused() -> bool:
        return (await watched.state())["state"] == "refused"

    await until(is_refused)
    state = await watched.state()
    assert "w1" in state["detail"] or "w1" in state["reason"]
    ready = await watched.browser.ready()
    assert "w1" in json.dumps(ready.json)
    signed = (await watched.state())["size"]
    assert (await watched.browser.call("POST", "events", grant())).status == 201  # evidence is late, durability is not
    await watched.server.stop()
    await watched.server.start()
    await until(is_refused)
    assert (await watched.state())["size"] == signed
    kept = [path.read_bytes() for path in watched.settings.anchors.rglob("*.txt")]
    assert any(beyond.body in text for text in kept)


async def test_a_site_whose_witnesses_do_not_know_it_takes_no_events_and_says_whom_to_tell(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config, "CHECKPOINT_FIRST_TIMEOUT_SECONDS", 2.0)
    async with await WitnessProcess.create(tmp_path / "w1", "witness.example.org/w1") as witness:
        policy = tmp_path / "policy"
        policy.write_text(policy_text("all", witness))
        settings = replace(settings, witness_policy=policy)
        name = new_site_name()
        with pytest.raises(Unavailable, match="404: it does not know this log") as caught:
            await found(settings, name)
        vkeys = re.findall(rf"{settings.origin_prefix}/{name}(?:\.admin-log)?\+\S+\+[^ ,]+", str(caught.value))
        assert len(vkeys) == 2, "the site's log, and its administrative log"
        for vkey in vkeys:
            code, said = await command("add-log", witness.directory, vkey)
            assert code == 0, said
        site = await found(settings, name)
        assert site.log_vkey in vkeys
