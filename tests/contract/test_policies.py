"""Versions of a policy over HTTP: what follows what, what they name, and how they are read again."""

from __future__ import annotations

import asyncio
import copy
import io
import json
import secrets
import struct
import zlib
from hashlib import sha256
from typing import Any

import pytest
import yaml

from ledger.config import NOTICE_MAX_BYTES, PICTURE_MAX_BYTES
from tests.contract.conftest import OTHER_SITE, Answer, Client, grant, refusal
from tests.contract.test_events import assert_problem

PATH = f"/v1/sites/{OTHER_SITE}"
NOTICE: dict[str, Any] = {
    "format": "consent-notice/1",
    "texts": {
        "en": {
            "title": "Cookies",
            "body": ["We count visits."],
            "labels": {"accept_all": "Yes", "only_necessary": "No"},
        }
    },
    "layout": {"form": "banner", "position": "bottom", "refusing": "equal"},
}


def picture(colour: int = 0) -> bytes:
    """A PNG of one pixel."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)
    pixels = zlib.compress(bytes((0, colour)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


async def in_force(client: Client) -> dict[str, Any]:
    answer = await client.call("GET", f"{PATH}/policy")
    assert answer.status == 200
    document: dict[str, Any] = answer.json
    return document


async def next_version(client: Client, **policy: Any) -> dict[str, Any]:
    """The document in force under a version that nobody has used."""
    document = copy.deepcopy(await in_force(client))
    document["policy"].pop("notMaterial", None)
    document["policy"] |= {"version": f"v-{secrets.token_hex(6)}", "material": False, **policy}
    return document


async def publish(client: Client, document: dict[str, Any]) -> Answer:
    return await client.call("PUT", f"{PATH}/policy", key=client.api.other_secret, json=document)


async def upload(client: Client, body: bytes, media_type: str = "application/json", **headers: str) -> Answer:
    return await client.call(
        "PUT",
        f"{PATH}/documents",
        key=client.api.other_secret,
        data=io.BytesIO(body),  # aiohttp warns of large bytes
        headers={"Content-Type": media_type, **headers},
    )


def notice(**members: Any) -> bytes:
    return json.dumps({**NOTICE, **members}).encode()


# --- what follows what -----------------------------------------------------------------------------------------------


async def test_a_purpose_that_is_dropped_is_refused_by_its_name(client: Client) -> None:
    document = await next_version(client)
    del document["purposes"]["analytics"]
    document["order"] = [name for name in document["order"] if name != "analytics"]
    answer = await publish(client, document)
    assert_problem(answer, 422, "invalid-document", "/purposes/analytics")
    assert "removedIn" in answer.json["detail"]


async def test_a_purpose_is_removed_in_the_version_that_removes_it(client: Client) -> None:
    document = await next_version(client)
    place = "/purposes/extra/removedIn"
    extra = {**document["purposes"]["analytics"], "title": {"en": "Extra"}}
    added = await next_version(client)
    added["purposes"]["extra"] = extra
    added["order"].append("extra")
    assert (await publish(client, added)).status == 201
    gone = await next_version(client)
    gone["purposes"]["extra"]["removedIn"] = "1.0"
    assert_problem(await publish(client, gone), 422, "invalid-document", place)
    gone["purposes"]["extra"]["removedIn"] = gone["policy"]["version"]
    assert (await publish(client, gone)).status == 201
    moved = await next_version(client)
    moved["purposes"]["extra"]["removedIn"] = moved["policy"]["version"]
    assert_problem(await publish(client, moved), 422, "invalid-document", place)
    never = await next_version(client)
    never["purposes"]["other"] = {**extra, "removedIn": "never"}
    never["order"].append("other")
    assert_problem(await publish(client, never), 422, "invalid-document", "/purposes/other/removedIn")
    back = await next_version(client)
    del back["purposes"]["extra"]["removedIn"]
    assert (await publish(client, back)).status == 201
    answer = await client.call("GET", f"{PATH}/policy/diff?to={back['policy']['version']}")
    assert answer.json["asksAgain"] == [{"purpose": "extra", "why": ["a purpose comes back: extra"]}]


async def test_a_purpose_goes_on_with_one_that_the_version_before_has(client: Client) -> None:
    document = await next_version(client)
    purposes = document["purposes"]
    purposes["analytics"]["aliasOf"] = "counting"
    purposes["counting"] = {**purposes["analytics"], "removedIn": document["policy"]["version"]}
    del purposes["counting"]["aliasOf"]
    document["order"].append("counting")
    answer = await publish(client, document)
    assert_problem(answer, 422, "invalid-document", "/purposes/analytics/aliasOf")


async def test_a_reason_is_on_record_for_a_change_and_for_nothing_else(client: Client) -> None:
    document = await next_version(client, notMaterial={"analytics": "It was so all along"})
    place = "/policy/notMaterial/analytics"
    assert_problem(await publish(client, document), 422, "invalid-document", place)
    found = document["purposes"]["analytics"].get("recipients", [])
    document["purposes"]["analytics"]["recipients"] = [*found, {"name": f"R {secrets.token_hex(4)}"}]
    document["policy"]["material"] = ["analytics"]
    assert_problem(await publish(client, document), 422, "invalid-document", place)
    document["policy"]["material"] = False
    assert (await publish(client, document)).status == 201
    answer = (await client.call("GET", f"{PATH}/policy/diff?to={document['policy']['version']}")).json
    assert answer["notMaterial"] == {"analytics": "It was so all along"}
    assert [change["material"] for change in answer["changes"]] == [True]
    assert "asksAgain" not in answer


async def test_a_version_is_published_once(client: Client) -> None:
    document = await next_version(client)
    key, headers = client.api.other_secret, {"Content-Type": "application/yaml"}
    source = yaml.safe_dump(document, sort_keys=False).encode()
    first = await client.call("PUT", f"{PATH}/policy", key=key, data=source, headers=headers)
    assert first.status == 201, first.body
    assert (first.json["site"], first.json["version"]) == (OTHER_SITE, document["policy"]["version"])
    now = await client.call("GET", f"{PATH}/policy")
    assert now.headers["ETag"] == f'"{first.json["document"]}"'
    as_json = await publish(client, now.json)
    assert (as_json.status, as_json.json, as_json.headers["Idempotent-Replayed"]) == (200, first.json, "true")
    assert_problem(await publish(client, {**now.json, "laws": ["another law"]}), 409, "version-taken")


async def test_a_version_that_was_to_hold_earlier_holds_since_it_is_published(client: Client) -> None:
    document = await next_version(client, effectiveAt="2026-01-01T00:00:00Z")
    assert (await publish(client, document)).status == 201
    newest = (await client.call("GET", f"{PATH}/policies?limit=1")).json["policies"][0]
    assert (newest["version"], newest["inForce"]) == (document["policy"]["version"], True)
    assert newest["effectiveAt"] == newest["publishedAt"]


async def test_of_two_contents_of_one_version_one_is_published(client: Client) -> None:
    document = await next_version(client)
    others = [{**document, "laws": [f"Law {n}"]} for n in range(4)]
    answers = await asyncio.gather(*(publish(client, each) for each in others))
    assert sorted(answer.status for answer in answers) == [201, 409, 409, 409]
    assert_problem(next(answer for answer in answers if answer.status == 409), 409, "version-taken")
    again = await asyncio.gather(*(publish(client, each) for each in others))
    assert sorted(answer.status for answer in again) == [200, 409, 409, 409]


async def test_one_content_that_is_published_by_many_at_once_is_published_once(client: Client) -> None:
    document = await next_version(client)
    answers = await asyncio.gather(*(publish(client, document) for _ in range(5)))
    assert sorted(answer.status for answer in answers) == [200, 200, 200, 200, 201]
    assert len({answer.body for answer in answers}) == 1


async def test_a_version_that_a_racing_one_does_not_fit_is_refused(client: Client) -> None:
    added, other = await next_version(client), await next_version(client)
    for document, name in ((added, "a"), (other, "b")):
        document["purposes"][f"race-{name}"] = document["purposes"]["analytics"]
        document["order"].append(f"race-{name}")
    answers = await asyncio.gather(publish(client, added), publish(client, other))
    assert sorted(answer.status for answer in answers) == [201, 422]


# --- reading ---------------------------------------------------------------------------------------------------------


async def test_a_version_that_is_to_come_is_read_by_its_number_and_by_its_time(client: Client) -> None:
    now = await in_force(client)
    document = await next_version(client, effectiveAt="2199-01-01T00:00:00Z")
    published = (await publish(client, document)).json
    assert (await in_force(client))["policy"]["version"] == now["policy"]["version"]
    version = document["policy"]["version"]
    for query in (f"version={version}", "at=2199-01-01T00:00:00Z"):
        answer = await client.call("GET", f"{PATH}/policy?{query}")
        assert (answer.json["policy"]["version"], answer.headers["ETag"]) == (version, f'"{published["document"]}"')
        assert sha256(answer.body).hexdigest() == published["document"]
    listed = (await client.call("GET", f"{PATH}/policies")).json["policies"]
    assert (listed[0]["version"], listed[0]["inForce"]) == (version, False)
    assert listed[0]["effectiveAt"] == "2199-01-01T00:00:00.000Z" > listed[0]["publishedAt"]
    assert [each["version"] for each in listed if each["inForce"]] == [now["policy"]["version"]]
    assert [each["seq"] for each in listed] == sorted((each["seq"] for each in listed), reverse=True)
    # Withdrawn again, so that what follows in this log is the newest in effect order for whom asks at any time.
    assert_problem(await client.call("GET", f"{PATH}/policy?at=1999-01-01T00:00:00Z"), 404, "not-found")


@pytest.mark.parametrize(
    ("call", "status", "slug"),
    [
        ("policy?version=never", 404, "not-found"),
        ("policy?version=a%20b", 400, "invalid-parameter"),
        ("policy?version=1.0&at=2026-11-21T00:00:00Z", 422, "invalid-query"),
        ("policy?at=yesterday", 400, "invalid-parameter"),
        ("policy/diff?from=never", 404, "not-found"),
        ("policy/diff?to=never", 404, "not-found"),
        ("policies?limit=0", 400, "invalid-parameter"),
        ("policies?cursor=x", 400, "invalid-cursor"),
    ],
)
async def test_a_question_about_versions_that_cannot_be_is_refused(
    client: Client, call: str, status: int, slug: str
) -> None:
    assert_problem(await client.call("GET", f"{PATH}/{call}"), status, slug)


async def test_the_versions_come_in_pages_and_are_cached_by_their_tag(client: Client) -> None:
    assert (await publish(client, await next_version(client))).status == 201
    whole = (await client.call("GET", f"{PATH}/policies")).json["policies"]
    pages, cursor = [], ""
    while True:
        answer = await client.call("GET", f"{PATH}/policies?limit=1{cursor}")
        pages += answer.json["policies"]
        if "next" not in answer.json:
            break
        cursor = f"&cursor={answer.json['next']}"
    assert pages == whole
    first = await client.call("GET", f"{PATH}/policies")
    again = await client.call("GET", f"{PATH}/policies", headers={"If-None-Match": first.headers["ETag"]})
    assert again.status == 304


async def test_a_diff_over_several_versions_tells_what_any_of_them_ended(client: Client) -> None:
    before = (await in_force(client))["policy"]["version"]
    wider = await next_version(client)
    cookies = wider["purposes"]["analytics"].get("cookies", [])
    name = f"c_{secrets.token_hex(4)}"
    wider["purposes"]["analytics"]["cookies"] = [*cookies, {"name": name, "duration": "P12M"}]
    assert (await publish(client, wider)).status == 201
    narrow = await next_version(client)
    narrow["purposes"]["analytics"]["cookies"] = cookies
    assert (await publish(client, narrow)).status == 201
    newest = narrow["policy"]["version"]
    step = (await client.call("GET", f"{PATH}/policy/diff?to={newest}")).json
    assert (step["before"], step["after"]) == (wider["policy"]["version"], newest)
    assert [change["what"] for change in step["changes"]] == [f"no longer: cookie {name}"]
    assert "asksAgain" not in step
    whole = (await client.call("GET", f"{PATH}/policy/diff?from={before}&to={newest}")).json
    assert whole["changes"] == []
    assert whole["asksAgain"] == [{"purpose": "analytics", "why": [f"a new cookie {name}, which lives 12 months"]}]


# --- documents -------------------------------------------------------------------------------------------------------


async def test_a_notice_is_uploaded_named_by_a_version_and_cited_by_events(client: Client) -> None:
    shot = await upload(client, picture(secrets.randbelow(256)), "image/png")
    body = notice(defaults={"analytics": "denied"}, screenshots=[{"document": shot.json["document"]}])
    first = await upload(client, body)
    digest = sha256(body).hexdigest()
    expected = {"document": digest, "mediaType": "application/json", "sizeBytes": len(body)}
    assert (first.status, first.json) == (201, expected)
    assert first.headers["Location"] == f"/documents/{digest}"
    again = await upload(client, body)
    assert (again.status, again.json, again.headers["Idempotent-Replayed"]) == (200, expected, "true")

    url, key = f"{PATH}/events", client.api.other_secret
    version = (await in_force(client))["policy"]["version"]
    event = grant(shown=digest, policyVersion=version)
    assert_problem(await client.call("POST", url, key=key, json=event), 422, "unknown-document", "/shown")
    document = await next_version(client)
    document["notices"] = {"banner": {"document": digest, "mediaType": "application/json"}}
    assert (await publish(client, document)).status == 201
    event["policyVersion"] = document["policy"]["version"]
    assert (await client.call("POST", url, key=key, json=event)).status == 201
    denied = refusal(shown=shot.json["document"], policyVersion=document["policy"]["version"])
    assert (await client.call("POST", url, key=key, json=denied)).status == 201, "kept, as cited and not as shown"


async def test_a_version_that_names_what_was_not_uploaded_is_refused_by_its_hash(client: Client) -> None:
    missing = "f" * 64
    document = await next_version(client)
    document["notices"] = {"banner": {"document": missing, "mediaType": "application/json"}}
    answer = await publish(client, document)
    assert_problem(answer, 422, "document-missing", "/notices/banner/document")
    assert missing in answer.json["detail"]
    alone = await upload(client, notice(screenshots=[{"document": missing}]))
    document["notices"]["banner"]["document"] = alone.json["document"]
    assert_problem(await publish(client, document), 422, "document-missing", "/notices/banner/document")
    terms = await next_version(client)
    terms["purposes"]["terms"] = {
        "title": {"en": "Terms"},
        "description": {"en": "Of use"},
        "kind": "acceptance",
        "document": missing,
    }
    terms["order"].append("terms")
    assert_problem(await publish(client, terms), 422, "document-missing", "/purposes/terms/document")


@pytest.mark.parametrize(
    ("members", "media_type", "place"),
    [
        ({}, "text/plain", "/notices/banner/mediaType"),
        ({"defaults": {"unheard": "denied"}}, "application/json", "/notices/banner/document"),
        ({"texts": {"kk": NOTICE["texts"]["en"]}}, "application/json", "/notices/banner/document"),
    ],
)
async def test_a_notice_that_does_not_fit_its_version_is_refused(
    client: Client, members: dict[str, Any], media_type: str, place: str
) -> None:
    stored = (await upload(client, notice(**members))).json["document"]
    document = await next_version(client)
    document["notices"] = {"banner": {"document": stored, "mediaType": media_type}}
    assert_problem(await publish(client, document), 422, "invalid-document", place)


@pytest.mark.parametrize(
    ("body", "media_type", "status", "slug"),
    [
        (notice(format="consent-notice/2"), "application/json", 422, "invalid-upload"),
        (b"{}", "application/json", 422, "invalid-upload"),
        (b"[]", "application/json", 422, "other-media-type"),
        (b'{"a": 1, "a": 1}', "application/json", 422, "invalid-upload"),
        (notice(), "text/plain", 422, "other-media-type"),
        (picture(), "image/jpeg", 422, "other-media-type"),
        (b"<html><script>1</script></html>", "text/html", 415, "unsupported-media-type"),
        (b"\xff\xd8\xff\xe0", "text/plain", 422, "other-media-type"),
        (b"RIFF    WEBP", "text/plain", 422, "other-media-type"),
        (b"a\x00b", "text/plain", 422, "invalid-upload"),
        (b"\xfe", "text/plain", 422, "invalid-upload"),
        (b" ", "text/plain", 422, "invalid-upload"),
        (b"", "image/png", 422, "invalid-upload"),
        (b"x" * (NOTICE_MAX_BYTES + 1), "text/plain", 413, "body-too-large"),
        (picture() + bytes(PICTURE_MAX_BYTES), "image/png", 413, "body-too-large"),
    ],
)
async def test_what_is_no_document_is_not_kept(
    client: Client, body: bytes, media_type: str, status: int, slug: str
) -> None:
    answer = await upload(client, body, media_type)
    assert (answer.status, answer.json["type"].rpartition(":")[2]) == (status, slug)


@pytest.mark.parametrize(
    ("body", "media_type", "served"),
    [
        (b"The terms, <script>alert(1)</script> as they were accepted.", "text/plain", "text/plain; charset=utf-8"),
        (picture(7), "image/png", "image/png"),
        (notice(), "application/json", "application/json"),
    ],
)
async def test_a_document_is_served_as_what_it_is_and_runs_nothing(
    client: Client, body: bytes, media_type: str, served: str
) -> None:
    digest = (await upload(client, body, media_type)).json["document"]
    answer = await client.call("GET", f"/documents/{digest}")
    assert (answer.status, answer.body, answer.headers["Content-Type"]) == (200, body, served)
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Content-Security-Policy"].startswith("sandbox")
    assert "immutable" in answer.headers["Cache-Control"]


async def test_uploading_needs_the_scope_admin(client: Client) -> None:
    path = f"/v1/sites/{OTHER_SITE}/documents"
    body, headers = notice(), {"Content-Type": "application/json"}
    assert (await client.call("PUT", path, data=body, headers=headers)).status == 401
    for scope in ("events", "check", "audit"):
        answer = await client.call("PUT", "documents", key=client.api.scoped[scope], data=body, headers=headers)
        assert_problem(answer, 403, "scope-missing")
