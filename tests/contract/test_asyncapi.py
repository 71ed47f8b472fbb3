"""proto/asyncapi.yaml and the messages that the relay builds are kept in step."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import jsonschema
import orjson
import pytest
import yaml

from ledger.core.entry import MAX_ERASED_SEQS, ZEROS, Entry, Kind, encode, encode_seqs
from ledger.core.event import ErasureRecord, Event, Type, encode_payload
from ledger.core.stream import SUBJECTS, Row, message, names

DOCUMENT = yaml.safe_load((Path(__file__).parents[2] / "proto" / "asyncapi.yaml").read_text(encoding="utf-8"))
SITE = "shop.example.com"


def opened(type_: str) -> Row:
    event = Event(
        id="01939f3e-7c1e-7000-8000-000000000001",
        site=SITE,
        type=type_,  # type: ignore[arg-type]
        visitor="visitor-0123456789abcdef",
        decisions={"analytics": "granted" if type_ == "consent.given" else "denied"},
        action="customize",
        policy_version="1.0",
        language="de",
        component="settings",
        shown="ab" * 32,
        region="DE",
        gpc=True,
        occurred_at="2026-11-21T03:00:00.000Z",
        sent_at="2026-11-21T03:00:01.000Z",
    )
    return row(Kind.EVENT, b"", encode_payload(event))


def row(kind: Kind, public: bytes, payload: bytes | None = None, document: bytes | None = None) -> Row:
    entry = encode(Entry(42, 1_795_000_000_000, ZEROS, kind, ZEROS, ZEROS, bytes(64), public))
    return Row(42, entry, None if payload is None else bytes(32), payload, False, document)


def other(**members: Any) -> Row:
    """An event of a type that decides nothing."""
    id_, visitor = "01939f3e-7c1e-7000-8000-000000000001", "visitor-0123456789abcdef"
    return row(Kind.EVENT, b"", encode_payload(Event(id=id_, site=SITE, visitor=visitor, **members)))


RECORD = ErasureRecord(SITE, "retention", "2026-11-21T03:00:00.000Z", "AAAA", "ticket-1")
ROWS = {
    "given": opened("consent.given"),
    "refused": opened("consent.refused"),
    "withdrawn": opened("consent.withdrawn"),
    "dismissed": other(type="consent.dismissed", action="dismiss", conditional=True),
    "expired": other(type="consent.expired", authentication="ledger", lapsed={"analytics": 7}),
    "invalidated": other(type="consent.invalidated", authentication="ledger", lapsed={"a": 7}, account="0f" * 16),
    "seen": other(type="notice.seen", tc_string="CPX", gpp_string="DBABMA~CPX"),
    "linked": other(type="account.linked", authentication="secret", account="0f" * 16),
    "unlinked": other(type="account.unlinked", authentication="secret", account="0f" * 16),
    "erased": row(Kind.EVENT, b"")._replace(erased=True),
    "erasure": row(Kind.ERASURE, encode_seqs(list(range(1, MAX_ERASED_SEQS + 1))), encode_payload(RECORD)),
    "policy": row(Kind.POLICY, bytes(32) + b"1.0", document=b'{"site":"shop.example.com"}'),
    "key": row(Kind.KEY, b"\x02" + bytes(32)),
}


def resolved(node: Any) -> Any:
    """The same with every local reference followed."""
    if isinstance(node, list):
        return [resolved(item) for item in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        target = DOCUMENT
        for part in node["$ref"].removeprefix("#/").split("/"):
            target = target[part]
        return resolved(target)
    return {name: resolved(value) for name, value in node.items()}


CHANNEL = resolved(DOCUMENT["channels"]["entries"])


def test_the_document_names_exactly_the_types_that_are_published() -> None:
    assert set(CHANNEL["messages"]) == set(CHANNEL["parameters"]["type"]["enum"]) == set(ROWS)
    types = DOCUMENT["components"]["schemas"]["attributes"]["properties"]["ce-type"]["enum"]
    assert set(types) == {f"consent.{name}" for name in ROWS.keys() - SUBJECTS.values()} | SUBJECTS.keys()
    assert set(get_args(Type)) == SUBJECTS.keys()


@pytest.mark.parametrize("name", sorted(ROWS))
def test_a_message_is_what_the_document_says(name: str) -> None:
    built = message(ROWS[name], SITE, "ledger.test/shop.example.com", 1_048_576)
    described = CHANNEL["messages"][name]
    headers = dict(built.headers)
    assert built.subject == CHANNEL["address"].format(site="shop_example_com", type=name)
    assert headers["ce-datacontenttype"] == described["contentType"]
    jsonschema.validate(headers, described["headers"])
    assert set(headers) <= {name for part in described["headers"]["allOf"] for name in part.get("properties", {})}
    if "payload" in described:
        jsonschema.validate(orjson.loads(built.data), described["payload"])


def test_a_policy_beyond_the_server_s_limit_is_described_too() -> None:
    large = row(Kind.POLICY, bytes(32) + b"1.0", document=bytes(200_000))
    built = message(large, SITE, "ledger.test/shop.example.com", 128 * 1024)
    jsonschema.validate(dict(built.headers), CHANNEL["messages"]["policy"]["headers"])


def test_the_document_s_stream_name_is_the_one_used() -> None:
    assert f"`{names(SITE).stream}`" in DOCUMENT["info"]["description"]
