"""The read API of c2sp.org/tlog-tiles, proofs and receipts, as the outward contract says; and the wait for a proof."""

from __future__ import annotations

import asyncio
import gzip
import json
from base64 import b64decode
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from yarl import URL

from ledger import config
from ledger.core import merkle
from ledger.core.encoding import encode_base64
from ledger.core.merkle import leaf_hash
from ledger.core.note import parse_checkpoint
from ledger.core.tile import ENTRIES, TILE_HEIGHT, TILE_WIDTH, Tile, decode_bundle, tiles_of
from ledger.core.tlog_proof import parse_proof
from ledger.embedded.postgres import Postgres
from ledger.http.limits import Limits
from tests.contract.auditing import LOG, Log, serving_log
from tests.contract.conftest import SITE, Answer, grant
from tests.harness import until

pytestmark = pytest.mark.asyncio(loop_scope="module")

FILLED = 600
"""Two full bundles and a partial one."""


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test signs is served at once."""
    monkeypatch.setattr(config, "SERVED_CHECKPOINT_CACHE_SECONDS", 0.0)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def log(
    postgres: Postgres, template_database: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Log]:
    """One for the tests of this module; a checkpoint may come at any time, entries too."""
    async with serving_log(postgres, template_database, tmp_path_factory.mktemp("keys")) as log:
        await log.fill(FILLED)
        await log.sign(FILLED)
        yield log


@pytest_asyncio.fixture(loop_scope="module")
async def impatient(postgres: Postgres, template_database: str, tmp_path: Path) -> AsyncIterator[Log]:
    """A server of its own that waits a moment for a checkpoint and no longer."""
    limits = Limits(checkpoint_wait_seconds=0.3)
    async with serving_log(postgres, template_database, tmp_path, limits) as log:
        yield log


def assert_problem(answer: Answer, status: int, slug: str) -> None:
    assert (answer.status, answer.json["type"]) == (status, f"urn:consent-ledger:problem:{slug}"), answer.json
    assert answer.headers["Cache-Control"] == "no-store"


def assert_public(answer: Answer, cache_control: str) -> None:
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert answer.headers["Cache-Control"] == cache_control


# --- the checkpoint ---------------------------------------------------------------------------------------------------


async def test_the_checkpoint_is_served_as_it_was_signed_and_cached_for_a_moment(log: Log) -> None:
    signed = await log.signed()
    answer = await log.get("/checkpoint", Origin="https://auditor.example")
    assert (answer.status, answer.body) == (200, signed.checkpoint.encode())
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert_public(answer, "public, max-age=1")
    again = await log.get("/checkpoint", **{"If-None-Match": answer.headers["ETag"]})
    assert (again.status, again.body) == (304, b"")
    head = await log.call("HEAD", f"{LOG}/checkpoint")
    assert (head.status, head.body) == (200, b"")
    assert head.headers["ETag"] == answer.headers["ETag"]
    assert head.headers["Content-Length"] == str(len(answer.body))


async def test_the_database_is_not_asked_for_the_checkpoint_by_every_reader(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await log.signed()
    assert (await log.get("/checkpoint")).body == first.checkpoint.encode()
    monkeypatch.setattr(config, "SERVED_CHECKPOINT_CACHE_SECONDS", 3600.0)
    second = await log.signed()
    assert (await log.get("/checkpoint")).body == first.checkpoint.encode()
    size = len(second.leaves)  # what only the second covers is looked for, and found
    assert parse_proof((await log.get(f"/proof?index={size - 1}")).body).checkpoint == second.checkpoint
    assert (await log.get("/checkpoint")).body == second.checkpoint.encode()


async def test_a_checkpoint_that_waits_for_its_witnesses_is_not_served_nor_what_it_covers(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config, "CHECKPOINT_QUORUM_PATIENCE_SECONDS", 3600.0)
    before = await log.signed()
    await log.post(grant())
    after = await log.sign(cosigned=False)
    size = len(after.leaves)
    path = Tile(0, (size - 1) // 256, (size - 1) % 256 + 1).path
    assert parse_checkpoint((await log.get("/checkpoint")).body) == before.checkpoint
    assert_problem(await log.get(f"/{path}"), 404, "not-found")
    assert_problem(await log.get(f"/proof?index={size - 1}"), 404, "not-found")
    assert_problem(await log.get(f"/consistency?old=1&new={size}"), 404, "not-found")
    monkeypatch.setattr(config, "CHECKPOINT_QUORUM_PATIENCE_SECONDS", 0.0)
    assert (await log.get(f"/{path}")).status == 200  # it has waited long enough
    assert parse_checkpoint((await log.get("/checkpoint")).body) == after.checkpoint


async def test_a_log_without_a_checkpoint_has_nothing_to_show(impatient: Log) -> None:
    await impatient.superuser("delete from ledger.checkpoint")
    for path in ("/checkpoint", "/tile/0/000.p/1", "/proof?index=0", "/consistency?old=0"):
        assert_problem(await impatient.get(path), 404, "not-found")
    assert_problem(await impatient.get_entries("/tile/entries/000.p/1"), 404, "not-found")


async def test_an_unknown_site_has_no_log(log: Log) -> None:
    for path in ("checkpoint", "tile/0/000", "tile/entries/000", "proof?index=0", "consistency?old=0"):
        assert_problem(await log.call("GET", f"/logs/no.example.com/{path}"), 404, "unknown-site")


# --- tiles ------------------------------------------------------------------------------------------------------------


async def test_every_tile_of_a_size_is_served_exactly_and_for_long(log: Log) -> None:
    leaves = (await log.signed()).leaves
    subtree = merkle.subtrees_of(leaves)
    for tile in tiles_of(len(leaves)):
        full = tile.width == TILE_WIDTH
        age = "max-age=31536000, immutable" if full else "max-age=86400, immutable"
        if tile.level == ENTRIES:
            answer = await log.get_entries(f"/{tile.path}")
            entries = decode_bundle(answer.body, tile.width)
            start = tile.n * TILE_WIDTH
            assert [leaf_hash(entry) for entry in entries] == leaves[start : start + tile.width]
            assert_public(answer, f"private, {age}")
        else:
            answer = await log.get(f"/{tile.path}")
            hashes = [subtree(tile.level * TILE_HEIGHT, tile.n * TILE_WIDTH + i) for i in range(tile.width)]
            assert answer.body == b"".join(hashes)
            assert_public(answer, f"public, {age}")
        assert answer.status == 200
        assert answer.headers["Content-Type"] == "application/octet-stream"


async def test_partial_tiles_of_every_width_below_the_served_size_are_there(log: Log) -> None:
    """A client may stand at any checkpoint that was served before; one of them needs this width."""
    leaves = (await log.signed()).leaves
    for n in range(len(leaves) // TILE_WIDTH + 1):
        start = n * TILE_WIDTH
        for width in [w for w in (1, 2, 87, 254, 255) if start + w <= len(leaves)]:
            answer = await log.get(f"/{Tile(0, n, width).path}")
            assert answer.body == b"".join(leaves[start : start + width])
            bundle = await log.get_entries(f"/{Tile(ENTRIES, n, width).path}")
            assert len(decode_bundle(bundle.body, width)) == width
    subtree = merkle.subtrees_of(leaves)
    assert (await log.get("/tile/1/000.p/1")).body == subtree(8, 0)


async def test_only_what_the_served_checkpoint_covers_is_given_out(log: Log) -> None:
    leaves = (await log.signed()).leaves
    await log.post(grant())
    size = len(leaves)
    last = Tile(0, (size - 1) // TILE_WIDTH, (size - 1) % TILE_WIDTH + 1)
    beyond = Tile(0, size // TILE_WIDTH, size % TILE_WIDTH + 1)
    assert (await log.get(f"/{last.path}")).status == 200
    for tile in (beyond, Tile(0, 900), Tile(1, 0, size // 256 + 1), Tile(1, 0), Tile(2, 0, 1), Tile(63, 0, 1)):
        assert_problem(await log.get(f"/{tile.path}"), 404, "not-found")
    assert_problem(await log.get_entries(f"/{beyond._replace(level=ENTRIES).path}"), 404, "not-found")
    await log.sign()
    assert (await log.get(f"/{beyond.path}")).status == 200  # at once: nobody remembers the refusal
    assert (await log.get_entries(f"/{beyond._replace(level=ENTRIES).path}")).status == 200


@pytest.mark.parametrize(
    "path",
    [
        "tile/0/0",
        "tile/0/00",
        "tile/0/0000",
        "tile/0/-01",
        "tile/0/+00",
        "tile/0/x000",
        "tile/0/x000/000",
        "tile/0/000/000",
        "tile/0/x000/x000",
        "tile/00/000",
        "tile/+0/000",
        "tile/64/000",
        "tile/0/000.p",
        "tile/0/000.p/",
        "tile/0/000.p/0",
        "tile/0/000.p/01",
        "tile/0/000.p/256",
        "tile/0/000.p/-1",
        "tile/0/000/",
        "tile/0//000",
        "tile//000",
        "tile/0/000.P/1",
        "tile/0/000.p/1/1",
        "tile/entries/0",
        "tile/entries/000.p/256",
        "tile/entries/000/",
        "tile/Entries/000",
        "tile/0/%30%30%30",
        "tile/%30/000",
        "tile/0/000.p%2f1",
        "tile/0/%D9%A0%D9%A0%D9%A0",
        "tile/0/x009/x007/x199/x254/x740/992",
        "tile/0/" + "x001/" * 300 + "001",
        "tile/0/000%00",
    ],
)
async def test_a_tile_path_in_another_form_is_not_found(log: Log, path: str) -> None:
    url = f"{log.api.url}{LOG}/{path}"
    sent = {"Authorization": f"Bearer {log.api.secret}"}
    async with aiohttp.ClientSession() as session, session.get(URL(url, encoded=True), headers=sent) as response:
        assert response.status == 404, await response.text()
        assert response.content_type == "application/problem+json"


async def test_a_tile_known_already_is_not_sent_again(log: Log) -> None:
    await log.signed()
    for get, path in ((log.get, "/tile/0/000"), (log.get_entries, "/tile/entries/000")):
        answer = await get(path)
        assert (await get(path, **{"If-None-Match": f'"x", W/{answer.headers["ETag"]}'})).status == 304
        assert (await get(path, **{"If-None-Match": '"x"'})).status == 200


async def test_tiles_may_be_asked_for_by_head_and_by_nothing_else(log: Log) -> None:
    await log.signed()
    answer = await log.get("/tile/0/000")
    head = await log.call("HEAD", f"{LOG}/tile/0/000")
    assert (head.status, head.body, head.headers["ETag"]) == (200, b"", answer.headers["ETag"])
    assert head.headers["Content-Length"] == "8192"
    for method in ("POST", "PUT", "DELETE"):
        refused = await log.call(method, f"{LOG}/tile/0/000", key=log.api.secret)
        assert_problem(refused, 405, "method-not-allowed")
        assert refused.headers["Allow"] == "GET,HEAD,OPTIONS"


@pytest.mark.parametrize("path", ["/checkpoint", "/tile/0/000", "/tile/entries/000", "/proof", "/consistency"])
async def test_pages_of_any_origin_may_read_the_log(log: Log, path: str) -> None:
    headers = {"Origin": "https://anybody.example", "Access-Control-Request-Method": "GET"}
    answer = await log.call("OPTIONS", LOG + path, headers=headers)
    assert answer.status == 204
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert "GET" in answer.headers["Access-Control-Allow-Methods"]
    refused = await log.call("GET", f"{LOG}{path}?nonsense=1", headers=headers)
    assert refused.headers["Access-Control-Allow-Origin"] == "*"  # a page may read why it was refused


# --- entry bundles ----------------------------------------------------------------------------------------------------


async def test_entry_bundles_need_a_secret_key_with_the_scope_audit(log: Log) -> None:
    path = f"{LOG}/tile/entries/000"
    assert_problem(await log.call("GET", path), 401, "key-missing")
    assert_problem(await log.call("GET", path, key="sk_unknown"), 401, "key-unknown")
    assert_problem(await log.call("GET", path, key=log.api.publishable), 403, "secret-key-needed")
    assert_problem(await log.call("GET", path, key=log.api.scoped["check"]), 403, "scope-missing")
    assert_problem(await log.call("GET", path, key=log.api.other_secret), 401, "key-unknown")
    in_a_page = await log.get_entries("/tile/entries/000", Origin="https://auditor.example")
    assert_problem(in_a_page, 403, "secret-key-in-browser")
    answer = await log.get_entries("/tile/entries/000")
    assert answer.status == 200
    assert "Authorization" in answer.headers["Vary"]


async def test_a_site_may_open_its_entry_bundles_to_everybody(log: Log) -> None:
    document = json.loads((await log.call("GET", "policy")).body)
    opened = {**document, "entryBundlesPublic": True, "policy": {**document["policy"], "version": "opened"}}
    assert (await log.call("PUT", "policy", key=log.api.secret, json=opened)).status == 201
    answer = await log.get("/tile/entries/000", Origin="https://auditor.example")
    assert answer.status == 200
    assert_public(answer, "public, max-age=31536000, immutable")
    assert answer.headers["Vary"] == "Accept-Encoding"
    closed = {**document, "policy": {**document["policy"], "version": "closed"}}
    assert (await log.call("PUT", "policy", key=log.api.secret, json=closed)).status == 201
    assert_problem(await log.get("/tile/entries/000"), 401, "key-missing")


async def test_a_bundle_is_compressed_for_those_who_take_it_so(log: Log) -> None:
    await log.signed()
    url = f"{log.api.url}{LOG}/tile/entries/000"
    key = {"Authorization": f"Bearer {log.api.secret}"}
    async with aiohttp.ClientSession(auto_decompress=False) as session:
        tags, bodies = [], []
        for accepted in ("identity", "gzip;q=0", "gzip", "br, GZIP;q=0.5"):
            async with session.get(url, headers={**key, "Accept-Encoding": accepted}) as response:
                body = await response.read()
                packed = response.headers.get("Content-Encoding") == "gzip"
                assert packed == (accepted in ("gzip", "br, GZIP;q=0.5"))
                assert len(body) < 40_000 if packed else len(body) > 46_000
                bodies.append(gzip.decompress(body) if packed else body)
                tags.append(response.headers["ETag"])
    assert len(set(bodies)) == 1
    assert tags[0] == tags[1] != tags[2] == tags[3]


# --- proofs -----------------------------------------------------------------------------------------------------------


async def test_consistency_is_proven_between_any_two_sizes(log: Log) -> None:
    leaves = (await log.signed()).leaves
    subtree = merkle.subtrees_of(leaves)
    size = len(leaves)
    for old, new in [(1, 2), (255, 256), (256, 600), (257, 513), (599, 600), (3, size), (0, 7), (7, 7)]:
        answer = await log.get(f"/consistency?old={old}&new={new}")
        proof = [encode_base64(h) for h in merkle.consistency_proof(old, new, subtree)]
        assert answer.json == {"site": SITE, "old": old, "new": new, "proof": proof}
        assert_public(answer, "public, max-age=86400, immutable")
    answer = await log.get("/consistency?old=5")
    assert (answer.json["new"], answer.headers["Cache-Control"]) == (size, "public, max-age=1")
    hashes = [b64decode(h) for h in answer.json["proof"]]
    merkle.check_consistency(5, size, hashes, merkle.root_of(leaves[:5]), merkle.root_of(leaves))


@pytest.mark.parametrize(
    "query", ["", "?new=5", "?old=-1", "?old=1e2", "?old=01", "?old=1&old=2", "?old=9007199254740992"]
)
async def test_a_question_for_consistency_that_cannot_be_is_refused(log: Log, query: str) -> None:
    assert_problem(await log.get(f"/consistency{query}"), 400, "invalid-parameter")


async def test_a_smaller_log_does_not_continue_a_larger_one(log: Log) -> None:
    assert_problem(await log.get("/consistency?old=6&new=5"), 422, "sizes-reversed")


async def test_the_log_proves_the_place_of_any_entry(log: Log) -> None:
    signed = await log.signed()
    for index in (0, 1, 255, 256, 599, len(signed.leaves) - 1):
        answer = await log.get(f"/proof?index={index}")
        proof = parse_proof(answer.body)
        assert (proof.index, proof.checkpoint) == (index, signed.checkpoint)
        proof.check(signed.leaves[index])
        assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
        assert_public(answer, "public, max-age=1")
    assert_problem(await log.get(f"/proof?index={len(signed.leaves)}"), 404, "not-found")
    for query in ("", "?index=x", "?index=-1"):
        assert_problem(await log.get(f"/proof{query}"), 400, "invalid-parameter")


# --- receipts ---------------------------------------------------------------------------------------------------------


async def test_a_receipt_has_its_proof_once_a_checkpoint_covers_it(log: Log) -> None:
    event = grant()
    posted = (await log.post(event)).json
    path = f"receipts/{event['id']}"
    early = await log.call("GET", path, key=log.api.secret)
    assert (early.status, early.json) == (200, posted)
    assert (early.headers["Checkpoint-Pending"], early.headers["Retry-After"]) == ("true", "1")
    for text in (f"{path}.tlog-proof", path):
        answer = await log.call("GET", text, key=log.api.secret, headers={"Accept": "text/plain"})
        assert_problem(answer, 503, "checkpoint-pending")
        assert answer.headers["Retry-After"] == "1"
    signed = await log.sign()
    late = await log.call("GET", path, key=log.api.secret)
    proof = parse_proof(late.json["proof"].encode())
    assert late.json == {**posted, "proof": late.json["proof"]}
    assert "Checkpoint-Pending" not in late.headers
    assert "Retry-After" not in late.headers
    assert late.headers["Vary"] == "Accept"
    assert (proof.index, proof.checkpoint) == (posted["seq"], signed.checkpoint)
    proof.check(b64decode(posted["leafHash"]))
    text = await log.call("GET", path, key=log.api.secret, headers={"Accept": "text/plain"})
    assert (text.status, text.body.decode()) == (200, late.json["proof"])
    assert text.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert "Content-Disposition" not in text.headers
    file = await log.call("GET", f"{path}.tlog-proof", key=log.api.secret)
    assert file.body == text.body
    assert file.headers["Content-Disposition"] == f'attachment; filename="{event["id"]}.tlog-proof"'
    for accepted in ("*/*", "application/json, text/plain", "text/html"):
        answer = await log.call("GET", path, key=log.api.secret, headers={"Accept": accepted})
        assert answer.json == late.json


async def test_a_proof_is_as_guarded_as_its_receipt(log: Log) -> None:
    event = grant()
    await log.post(event)
    path = f"receipts/{event['id']}.tlog-proof"
    assert_problem(await log.call("GET", path), 401, "key-missing")
    assert_problem(await log.call("GET", path, key=log.api.publishable), 403, "secret-key-needed")
    assert_problem(await log.call("GET", path, key=log.api.scoped["check"]), 403, "scope-missing")
    unknown = "receipts/01980000-0000-7000-8000-000000000000.tlog-proof"
    assert_problem(await log.call("GET", unknown, key=log.api.secret), 404, "not-found")
    assert_problem(await log.call("GET", "receipts/nonsense.tlog-proof", key=log.api.secret), 404, "not-found")


async def test_an_older_checkpoint_with_its_quorum_is_worth_more_than_a_newer_one_without(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config, "CHECKPOINT_QUORUM_PATIENCE_SECONDS", 0.0)
    first, second = grant(), grant()
    await log.post(first)
    cosigned = await log.sign()
    await log.post(second)
    newest = await log.sign(cosigned=False)
    for event, under, pending in ((first, cosigned, False), (second, newest, True)):
        answer = await log.call("GET", f"receipts/{event['id']}", key=log.api.secret)
        assert parse_proof(answer.json["proof"].encode()).checkpoint == under.checkpoint
        assert answer.headers.get("Checkpoint-Pending") == ("true" if pending else None)
        assert "Retry-After" not in answer.headers
    await log.signed()


async def test_a_proof_that_does_not_lead_to_the_signed_root_is_not_given_out(impatient: Log) -> None:
    event = grant()
    await impatient.post(event)
    await impatient.fill(260)
    await impatient.sign()
    flip = "update ledger.tile set hashes = set_byte(hashes, 4000, get_byte(hashes, 4000) # 1)"
    await impatient.superuser(flip)
    for path in ("/proof?index=2", "/proof?index=255"):
        assert_problem(await impatient.get(path), 503, "tree-altered")
    receipt = f"receipts/{event['id']}"
    assert_problem(await impatient.call("GET", receipt, key=impatient.api.secret), 503, "tree-altered")
    await impatient.superuser(flip)  # put right again: what was read in between is not remembered
    assert (await impatient.call("GET", receipt, key=impatient.api.secret)).json["proof"]
    assert (await impatient.get("/proof?index=255")).status == 200


# --- waiting for a checkpoint -----------------------------------------------------------------------------------------


async def wait_post(log: Log, event: dict[str, Any], **headers: str) -> Answer:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return await log.call("POST", "events?wait=checkpoint", key=log.api.publishable, json=event, headers=sent)


async def recorded(log: Log, events: list[dict[str, Any]]) -> None:
    """Until all of them are in the log."""

    async def all_there() -> bool:
        answers = [await log.call("GET", f"receipts/{event['id']}", key=log.api.secret) for event in events]
        return all(answer.status == 200 for answer in answers)

    await until(all_there)


async def test_a_post_that_waits_is_answered_with_its_proof(log: Log) -> None:
    event = grant()
    waiting = asyncio.create_task(wait_post(log, event))
    await recorded(log, [event])
    assert not waiting.done()
    signed = await log.sign()
    answer = await waiting
    assert (answer.status, answer.headers.get("Checkpoint-Pending")) == (201, None)
    proof = parse_proof(answer.json["proof"].encode())
    assert (proof.index, proof.checkpoint) == (answer.json["seq"], signed.checkpoint)
    proof.check(b64decode(answer.json["leafHash"]))
    replayed = await wait_post(log, event)
    assert (replayed.status, replayed.json) == (200, answer.json)
    assert replayed.headers["Idempotent-Replayed"] == "true"


async def test_a_repeated_post_may_wait_for_what_the_first_did_not(log: Log) -> None:
    event = grant()
    first = await log.post(event)
    waiting = asyncio.create_task(wait_post(log, event, Prefer="return=minimal"))
    await asyncio.sleep(2 * config.CHECKPOINT_POLL_SECONDS)
    assert not waiting.done()
    await log.sign()
    answer = await waiting
    assert (answer.status, answer.headers.get("Checkpoint-Pending")) == (200, None)
    assert answer.json == {name: first.json[name] for name in ("id", "site", "seq", "position")}


async def test_many_waiters_are_answered_by_the_checkpoint_that_covers_each(log: Log) -> None:
    early, late = [grant() for _ in range(30)], [grant() for _ in range(30)]
    first = [asyncio.create_task(wait_post(log, event)) for event in early]
    await recorded(log, early)
    second: list[asyncio.Task[Answer]] = []
    signed = await log.sign()
    second = [asyncio.create_task(wait_post(log, event)) for event in late]
    for answer in await asyncio.gather(*first):
        proof = parse_proof(answer.json["proof"].encode())
        assert proof.checkpoint.size >= signed.checkpoint.size
        proof.check(b64decode(answer.json["leafHash"]))
    await recorded(log, late)
    assert not any(task.done() for task in second)
    last = await log.sign()
    for answer in await asyncio.gather(*second):
        assert parse_proof(answer.json["proof"].encode()).checkpoint == last.checkpoint


async def test_when_the_time_is_over_the_event_is_recorded_all_the_same(impatient: Log) -> None:
    event = grant()
    answer = await wait_post(impatient, event)
    assert (answer.status, answer.headers["Checkpoint-Pending"]) == (201, "true")
    assert "proof" not in answer.json
    again = await wait_post(impatient, event)
    assert (again.status, again.json, again.headers["Checkpoint-Pending"]) == (200, answer.json, "true")
    signed = await impatient.sign()
    receipt = await impatient.call("GET", answer.headers["Location"], key=impatient.api.secret)
    assert parse_proof(receipt.json["proof"].encode()).checkpoint == signed.checkpoint


async def test_a_post_that_was_held_is_metered_apart(impatient: Log) -> None:
    await wait_post(impatient, grant())
    await impatient.post(event := grant())
    await impatient.sign()
    await wait_post(impatient, event)
    text = (await impatient.call("GET", "/metrics")).body.decode()
    for line in (
        'consent_ledger_http_checkpoint_waits_total{outcome="pending"} 1.0',
        'consent_ledger_http_checkpoint_waits_total{outcome="proven"} 1.0',
        'request_seconds_count{method="POST",route="/v1/sites/{site}/events?wait=checkpoint"} 2.0',
        'request_seconds_count{method="POST",route="/v1/sites/{site}/events"} 1.0',
    ):
        assert line in text


async def test_without_the_quorum_the_time_ends_with_a_proof_that_is_marked(
    impatient: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config, "CHECKPOINT_QUORUM_PATIENCE_SECONDS", 0.0)
    event = grant()
    await impatient.post(event)
    signed = await impatient.sign(cosigned=False)
    answer = await wait_post(impatient, event)
    assert (answer.status, answer.headers["Checkpoint-Pending"]) == (200, "true")
    assert parse_proof(answer.json["proof"].encode()).checkpoint == signed.checkpoint


async def test_nothing_that_goes_wrong_with_a_proof_is_told_as_a_failure_of_the_event(impatient: Log) -> None:
    await impatient.sign()
    await impatient.superuser("update ledger.checkpoint set note = 'nonsense'")
    for _ in range(2):
        answer = await wait_post(impatient, event := grant())
        assert (answer.status, answer.headers["Checkpoint-Pending"]) == (201, "true")
        known = await impatient.post(event)
        assert known.status == 200


async def test_who_waits_beyond_the_bound_is_answered_at_once(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "CHECKPOINT_WAITERS_MAX", 0)
    answer = await wait_post(log, grant())
    assert (answer.status, answer.headers["Checkpoint-Pending"]) == (201, "true")


async def test_nobody_looks_for_checkpoints_while_nobody_waits(log: Log) -> None:
    waiting = asyncio.create_task(wait_post(log, event := grant()))
    await recorded(log, [event])
    assert looking() == 1
    await log.sign()
    await waiting

    async def nobody() -> bool:
        return looking() == 0

    await until(nobody)


def looking() -> int:
    return sum(task.get_name().startswith("checkpoint ") for task in asyncio.all_tasks())
