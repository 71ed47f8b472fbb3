"""The schema of a person's export stands alone, and says what the contract says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator

import ledger
from ledger.person import FORMAT
from tests.contract.conftest import Client

PROTO = Path(__file__).parents[2] / "proto"


def derived() -> str:
    """The contract's schema of an export with all that it refers to, as a document of its own."""
    schemas = yaml.safe_load((PROTO / "openapi.yaml").read_text("utf-8"))["components"]["schemas"]
    found: dict[str, Any] = {}
    waiting = ["PersonExport"]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found[name] = schemas[name]
            waiting += references(schemas[name])
    text = json.dumps(
        {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "$id": "urn:consent-ledger:schema:person-export:v1",
            "title": "Everything that a consent ledger holds of one visitor",
            "$ref": "#/$defs/PersonExport",
            "$defs": dict(sorted(found.items())),
        },
        ensure_ascii=False,
        indent=2,
    )
    return text.replace('"#/components/schemas/', '"#/$defs/') + "\n"


def references(node: Any) -> list[str]:
    if isinstance(node, dict):
        own = [node["$ref"].rpartition("/")[2]] if isinstance(node.get("$ref"), str) else []
        return own + [name for value in node.values() for name in references(value)]
    return [name for value in node for name in references(value)] if isinstance(node, list) else []


def test_both_copies_are_what_the_contract_says() -> None:
    text = derived()
    Draft202012Validator.check_schema(json.loads(text))
    for path in (PROTO / "person-export.schema.json", Path(ledger.__file__).parent / "http/person-export.schema.json"):
        assert path.read_text("utf-8") == text, f"write the schema to {path}"
    assert json.loads(text)["$defs"]["PersonExport"]["properties"]["format"] == {"const": FORMAT}


async def test_it_is_served(client: Client) -> None:
    answer = await client.call("GET", "/schemas/person-export.json")
    assert (answer.status, answer.json) == (200, json.loads(derived()))
    assert answer.headers["Content-Type"].startswith("application/schema+json")
