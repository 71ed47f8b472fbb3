"""A whole ledger with its checkpointer and two witnesses, audited over HTTP by tools that know nothing of it."""

from __future__ import annotations

import asyncio
import json
from base64 import b64decode
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import metamorphic_log as metamorphic
import pytest
from tlog_scales.backend import HttpBackend
from tlog_scales.reader import TilesReader
from tlog_scales.signing import Vkey
from tlog_scales.tlog import Checkpoint, ConsistencyProof, InclusionProof

from ledger.config import Settings
from ledger.core.admin_act import admin_log_of
from ledger.core.merkle import leaf_hash
from ledger.core.tlog_proof import parse_proof
from ledger.provision import SiteCredentials
from tests.harness import Browser, Process, found, grant
from tests.witnesses import WitnessProcess, found_witnessed, policy_text

pytestmark = pytest.mark.slow
EVENTS = 600


async def record(session: aiohttp.ClientSession, url: str, site: SiteCredentials, count: int) -> None:
    """Many events at once, by the batch call."""
    lines = "\n".join(json.dumps(grant()) for _ in range(count))
    headers = {"Authorization": f"Bearer {site.secret}", "Content-Type": "application/x-ndjson"}
    async with session.post(f"{url}/v1/sites/{site.site}/events:batch", data=lines, headers=headers) as response:
        results = [json.loads(line) for line in (await response.text()).splitlines()]
    assert {result["status"] for result in results} == {201}


async def proven(browser: Browser) -> dict[str, Any]:
    """The receipt of a new event, which came with its proof."""
    reply = await browser.call("POST", "events?wait=checkpoint", grant())
    assert (reply.status, reply.headers.get("Checkpoint-Pending")) == (201, None)
    receipt: dict[str, Any] = reply.json
    return receipt


def reader(url: str, site: SiteCredentials, size: int) -> TilesReader:
    backend = HttpBackend(f"{url}/logs/{site.site}")
    backend.session.headers["Authorization"] = f"Bearer {site.secret}"
    tiles = TilesReader(backend)
    tiles.set_size(size)
    return tiles


def audit(url: str, site: SiteCredentials, witnesses: list[str], receipts: list[dict[str, Any]]) -> None:
    """What a stranger does with the vkeys and receipts that he was given, and nothing of ours."""
    proofs = [parse_proof(receipt["proof"].encode()) for receipt in receipts]
    notes = [proof.checkpoint.encode().decode() for proof in proofs]
    for receipt, proof, note in zip(receipts, proofs, notes, strict=True):
        leaf, size, root = leaf_hash(b64decode(receipt["entry"])), proof.checkpoint.size, proof.checkpoint.root
        metamorphic.checkpoint_verify_inclusion(note, [site.log_vkey], receipt["seq"], leaf, list(proof.hashes))
        InclusionProof(receipt["seq"], size, list(proof.hashes)).check(leaf, root)
        for vkey in (site.log_vkey, *witnesses):
            Checkpoint.from_text(note).verify(Vkey.from_string(vkey))
        tiles = reader(url, site, size)
        assert tiles.calculate_root_hash() == root
        assert tiles.get_entry(receipt["seq"]) == b64decode(receipt["entry"])
        assert tiles.get_inclusion_proof(receipt["seq"], size).node_hashes == list(proof.hashes)
    served = reader(url, site, 0).get_checkpoint()
    served.verify(Vkey.from_string(site.log_vkey))
    for proof, note in zip(proofs, notes, strict=True):
        old = proof.checkpoint
        hashes = reader(url, site, served.size).get_consistency_proof(old.size, served.size).node_hashes
        ConsistencyProof(old.size, served.size, hashes).check(old.root, served.root_hash)
        metamorphic.checkpoint_verify_consistency(note, served.serialize(), [site.log_vkey], hashes)


def audit_administration(url: str, site: SiteCredentials) -> None:
    """The same of the administrative log, as far as nobody holds a receipt of it."""
    log = site._replace(site=admin_log_of(site.site), log_vkey=site.admin_log_vkey)
    served = reader(url, log, 0).get_checkpoint()
    served.verify(Vkey.from_string(log.log_vkey))
    tiles = reader(url, log, served.size)
    assert tiles.calculate_root_hash() == served.root_hash
    for seq in range(served.size):
        leaf, hashes = leaf_hash(tiles.get_entry(seq)), tiles.get_inclusion_proof(seq, served.size).node_hashes
        metamorphic.checkpoint_verify_inclusion(served.serialize(), [log.log_vkey], seq, leaf, hashes)


async def test_what_a_running_ledger_gives_out_satisfies_tools_that_know_nothing_of_it(
    settings: Settings, tmp_path: Path
) -> None:
    one, two = [await WitnessProcess.create(tmp_path / f"w{i}", f"witness.example.org/w{i}") for i in (1, 2)]
    async with one, two, aiohttp.ClientSession() as session:
        policy = tmp_path / "policy"
        policy.write_text(policy_text("all", one, two))
        settings = replace(settings, witness_policy=policy)
        site = await found_witnessed(settings, one, two)
        async with Process(settings, tmp_path) as server:
            browser = Browser(session, server.url, site)
            receipts = [await proven(browser)]
            for count in (300, EVENTS - 300):
                await record(session, server.url, site, count)
                receipts.append(await proven(browser))
            assert receipts[-1]["seq"] > 2 * 256
            await asyncio.to_thread(audit, server.url, site, [str(one.vkey), str(two.vkey)], receipts)


async def test_without_witnesses_a_post_gets_its_proof_as_well(settings: Settings, tmp_path: Path) -> None:
    site = await found(settings)
    async with Process(settings, tmp_path) as server, aiohttp.ClientSession() as session:
        browser = Browser(session, server.url, site)
        receipts = await asyncio.gather(*(proven(browser) for _ in range(40)))
        await asyncio.to_thread(audit, server.url, site, [], receipts[:3])
        await asyncio.to_thread(audit_administration, server.url, site)
        for receipt in receipts:
            parse_proof(receipt["proof"].encode()).check(b64decode(receipt["leafHash"]))
        again = await browser.call("GET", f"receipts/{receipts[0]['id']}", secret=True)
        assert again.json["entry"] == receipts[0]["entry"]
        parse_proof(again.json["proof"].encode()).check(b64decode(again.json["leafHash"]))
