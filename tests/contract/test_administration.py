"""What is done to a site over HTTP is on record: by which key, from where, under which instruction."""

from __future__ import annotations

import secrets
from hashlib import sha256

from ledger.admin_log import Wanted, acts
from ledger.config import Settings
from ledger.core.admin_act import AdminAct, admin_log_of
from ledger.region import RegionFinder, parse_networks
from ledger.site import SiteRegistry
from ledger.store.pool import open_pool
from ledger.store.reads import Reads
from tests.contract.conftest import OTHER_SITE, SITE, Api, Client
from tests.contract.test_policies import PATH, next_version

INSTRUCTION = {"Consent-Instruction": "ticket 7", "Consent-Instruction-Flag": "unclear"}


async def recorded(settings: Settings, site: str, word: str) -> list[AdminAct]:
    pool = await open_pool(settings.database_url, size=2)
    sites = SiteRegistry(Reads(pool), pool, settings)
    try:
        found = [each.act async for each in acts(pool, await sites.admin_log(site), Wanted(act=word))]
    finally:
        await sites.stop()
        await pool.close()
    return [act for act in found if act is not None]


async def test_publishing_over_http_is_on_record_before_it_is_done(api: Api, client: Client) -> None:
    document = await next_version(client)
    key = api.other_secret
    answer = await client.call("PUT", f"{PATH}/policy", key=key, json=document, headers=INSTRUCTION)
    assert answer.status == 201
    version = document["policy"]["version"]
    found = [
        act for act in await recorded(api.settings, OTHER_SITE, "policy.published") if act.details["version"] == version
    ]
    (act,) = found
    key_id = sha256(key.encode()).digest()[:8].hex()
    assert (act.actor, act.role) == (f"made with the site [{key_id}]", "api_key")
    assert (act.address, act.instruction, act.flagged) == ("127.0.0.1", "ticket 7", "unclear")
    assert act.details["document"] == answer.json["document"]

    before = len(await recorded(api.settings, OTHER_SITE, "policy"))
    assert (await client.call("PUT", f"{PATH}/policy", key=key, json=document)).status == 200, "it is published already"
    document["policy"]["version"] = f"v-{secrets.token_hex(6)}"
    for headers in (
        {"Consent-Instruction-Flag": "because"},
        {"Consent-Instruction": "x" * 513},
        {"Consent-Instruction": "7\u202e8"},
    ):
        refused = await client.call("PUT", f"{PATH}/policy", key=key, json=document, headers=headers)
        assert (refused.status, refused.json["type"].rpartition(":")[2]) == (400, "invalid-parameter")
    document["origins"] = ["nowhere"]
    assert (await client.call("PUT", f"{PATH}/policy", key=key, json=document)).status == 422
    assert len(await recorded(api.settings, OTHER_SITE, "policy")) == before, "what is refused, or done, is no act"


async def test_uploads_and_reviews_are_on_record(api: Api, client: Client) -> None:
    text = f"Terms {secrets.token_hex(8)}\n".encode()
    key, path = api.scoped["admin"], f"/v1/sites/{SITE}"
    for _ in range(2):
        answer = await client.call(
            "PUT", f"{path}/documents", key=key, data=text, headers={"Content-Type": "text/plain"}
        )
        assert answer.status in (200, 201), answer.body
    uploads = [
        act.details
        for act in await recorded(api.settings, SITE, "document")
        if act.details["document"] == sha256(text).hexdigest()
    ]
    told = {"document": sha256(text).hexdigest(), "mediaType": "text/plain", "size": str(len(text))}
    assert uploads == [told]
    answer = await client.call("POST", f"{path}/cookies:review", key=key, json={"by": "counsel"})
    assert answer.status in (200, 201), answer.body
    deceiving = await client.call("POST", f"{path}/cookies:review", key=key, json={"by": "counsel\u0085"})
    assert (deceiving.status, deceiving.json["pointer"]) == (422, "/by")
    assert any(act.details["label"] == "counsel" for act in await recorded(api.settings, SITE, "cookies.reviewed"))


async def test_the_administrative_log_is_read_like_a_log_and_is_no_site(api: Api, client: Client) -> None:
    name = admin_log_of(SITE)
    checkpoint = await client.call("GET", f"/logs/{name}/checkpoint")
    assert checkpoint.body.startswith(f"ledger.test/{name}\n".encode())
    size = int(checkpoint.body.split(b"\n")[1])
    tile = f"/logs/{name}/tile/0/000.p/{size}"
    assert (await client.call("GET", tile)).status == 200
    entries = f"/logs/{name}/tile/entries/000.p/{size}"
    assert (await client.call("GET", entries)).status == 401
    assert (await client.call("GET", entries, key=api.other_secret)).status == 401, "another site's key"
    assert (await client.call("GET", entries, key=api.scoped["check"])).status == 403
    assert (await client.call("GET", entries, key=api.scoped["audit"])).status == 200
    for method, call in (("POST", "events"), ("GET", "policy"), ("PUT", "policy"), ("GET", "cookies")):
        answer = await client.call(method, f"/v1/sites/{name}/{call}", key=api.secret, json={})
        assert (answer.status, answer.json["type"].rpartition(":")[2]) == (404, "unknown-site"), call
    assert (await client.call("GET", "/logs/nowhere.example.admin-log/checkpoint")).status == 404


def test_the_address_on_record_is_that_of_the_caller_past_our_own_proxies_and_no_others() -> None:
    from multidict import CIMultiDict

    forwarded = CIMultiDict({"X-Forwarded-For": "198.51.100.9, 203.0.113.7"})
    trusting = RegionFinder(parse_networks("10.0.0.0/8"))
    assert trusting.address("10.1.2.3", forwarded) == "203.0.113.7"
    assert trusting.address("192.0.2.1", forwarded) == "192.0.2.1"
    assert RegionFinder().address("2001:DB8:0::7", forwarded) == "2001:db8::7"
    assert RegionFinder().address(None, forwarded) is None
