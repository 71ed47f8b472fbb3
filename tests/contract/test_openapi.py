"""The contract as a document: valid, complete, in step with the routes and with what is served, its examples true."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest
import yaml
from jsonschema import Draft202012Validator, FormatChecker
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from ledger import config, messages, person_messages
from ledger.core import event as events
from ledger.core.entry import commitment, decode
from ledger.core.event import Event, decode_payload, parse_input
from ledger.core.merkle import leaf_hash
from ledger.core.note import check_origin
from ledger.core.notice import NoticeArtefact
from ledger.core.tlog_proof import parse_proof
from ledger.http.app import ROUTES
from ledger.http.problem import KINDS, TYPE_PREFIX
from ledger.requests import messages as request_messages
from tests.contract.conftest import Client

CONTRACT_YAML = Path(__file__).parents[2] / "proto" / "openapi.yaml"
PACKAGED = Path(__file__).parents[2] / "ledger" / "http" / "openapi.json"
CONTRACT: dict[str, Any] = yaml.safe_load(CONTRACT_YAML.read_text("utf-8"))
METHODS = ("get", "put", "post", "delete", "patch")
NOT_IN_THE_CONTRACT = {"/", "/web/config.json", "/web/{name}", "/verify"}  # pages for people

_ROOT = "urn:contract"
_REGISTRY: Registry[Any] = Registry().with_resource(_ROOT, Resource.from_contents(CONTRACT, DRAFT202012))


def pointer(*steps: str) -> str:
    return "#" + "".join("/" + step.replace("~", "~0").replace("/", "~1") for step in steps)


def resolve(node: Any) -> Any:
    """The node that a `$ref` points to."""
    while isinstance(node, dict) and "$ref" in node:
        target = CONTRACT
        for step in node["$ref"].removeprefix("#/").split("/"):
            target = target[step]
        node = target
    return node


def validator(schema: dict[str, Any]) -> Draft202012Validator:
    scoped = json.loads(json.dumps(schema).replace('"#/', f'"{_ROOT}#/'))
    return Draft202012Validator(scoped, registry=_REGISTRY, format_checker=FormatChecker())


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in CONTRACT["paths"].items():
        for method in METHODS:
            if method in item:
                yield path, method, item[method]


def examples() -> Iterator[tuple[str, dict[str, Any], Any]]:
    """Name, schema and value of each example in the contract."""
    for path, method, operation in operations():
        where = f"{method} {path}"
        shared = CONTRACT["paths"][path].get("parameters", [])
        for parameter in map(resolve, shared + operation.get("parameters", [])):
            values = [resolve(one)["value"] for one in parameter.get("examples", {}).values()]
            for value in values + ([parameter["example"]] if "example" in parameter else []):
                yield f"{where} {parameter['name']}", parameter["schema"], value
        contents = [("body", operation.get("requestBody", {}))]
        contents += [(status, resolve(response)) for status, response in operation["responses"].items()]
        for kind, holder in contents:
            for media_type, content in holder.get("content", {}).items():
                for name, example in content.get("examples", {}).items():
                    yield f"{where} {kind} {media_type} {name}", content["schema"], resolve(example)["value"]


EXAMPLES = list(examples())


def test_the_packaged_copy_is_the_contract() -> None:
    copy = json.dumps(CONTRACT, ensure_ascii=False, indent=1) + "\n"
    assert PACKAGED.read_text("utf-8") == copy, f"write the contract as JSON (indent 1) to {PACKAGED}"


async def test_the_contract_is_served(client: Client) -> None:
    answer = await client.call("GET", "/openapi.json")
    assert (answer.status, answer.json) == (200, CONTRACT)


def test_every_schema_is_a_schema() -> None:
    for schema in CONTRACT["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)
    for _, _, operation in operations():
        for parameter in map(resolve, operation.get("parameters", [])):
            Draft202012Validator.check_schema(parameter["schema"])


def test_every_reference_leads_somewhere() -> None:
    waiting: list[Any] = [CONTRACT]
    used: set[str] = set()
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            if isinstance(node.get("$ref"), str):
                used.add(node["$ref"])
                assert resolve(node) is not None
            waiting += node.values()
        elif isinstance(node, list):
            waiting += node
    unused = {
        f"#/components/{kind}/{name}"
        for kind in ("parameters", "headers", "responses", "examples", "schemas")
        for name in CONTRACT["components"][kind]
    } - used
    assert unused <= {"#/components/schemas/BatchResult"}  # the lines of a body that is no JSON as a whole


def test_the_contract_has_every_route_and_no_other() -> None:
    described = {(method.upper(), path) for path, method, _ in operations()}
    assert described == {(route.method, route.template) for route in ROUTES if route.path not in NOT_IN_THE_CONTRACT}


@pytest.mark.parametrize(
    ("path", "method", "operation"), list(operations()), ids=[f"{m} {p}" for p, m, _ in operations()]
)
def test_every_operation_says_how_it_refuses(path: str, method: str, operation: dict[str, Any]) -> None:
    statuses = set(operation["responses"])
    assert operation["operationId"]
    assert operation["summary"]
    assert "400" in statuses  # of a parameter that is not known here
    if operation["security"]:
        assert {"401", "403", "404", "500", "503"} <= statuses
    if "requestBody" in operation:
        assert {"413", "415"} <= statuses
    for status in statuses:
        content = resolve(operation["responses"][status]).get("content", {})
        if int(status) >= 400 and path != "/readyz":
            assert set(content) == {"application/problem+json"}


@pytest.mark.parametrize(("schema", "value"), [row[1:] for row in EXAMPLES], ids=[row[0] for row in EXAMPLES])
def test_every_example_fits_its_schema(schema: dict[str, Any], value: Any) -> None:
    validator(schema).validate(value)


def test_the_lines_of_the_batch_examples_fit_their_schemas() -> None:
    batch = CONTRACT["paths"]["/v1/sites/{site}/events:batch"]["post"]
    sent = batch["requestBody"]["content"]["application/x-ndjson"]["examples"]["two"]["value"]
    told = batch["responses"]["200"]["content"]["application/x-ndjson"]["examples"]["two"]["value"]
    for line in sent.splitlines():
        validator(CONTRACT["components"]["schemas"]["EventInput"]).validate(json.loads(line))
        parse_input(line.encode())
    for line in told.splitlines():
        validator(CONTRACT["components"]["schemas"]["BatchResult"]).validate(json.loads(line))
    assert len(sent.splitlines()) == len(told.splitlines()) == 2


def test_the_example_of_a_consent_receipt_is_signed_by_the_example_of_a_key() -> None:
    (key,) = CONTRACT["paths"]["/.well-known/jwks.json"]["get"]["responses"]["200"]["content"][
        "application/jwk-set+json"
    ]["examples"]["one"]["value"]["keys"]
    receipt = CONTRACT["paths"]["/v1/sites/{site}/receipts/{id}"]["get"]["responses"]["200"]["content"]
    token = receipt["application/jwt"]["examples"]["granted"]["value"]
    assert jwt.get_unverified_header(token) == {"alg": "EdDSA", "kid": key["kid"], "typ": "JWT"}
    claims = jwt.decode(token, jwt.PyJWK.from_dict(key).key, algorithms=["EdDSA"], options={"verify_iat": False})
    proven = CONTRACT["components"]["examples"]["receiptProven"]["value"]
    assert (claims["jti"], claims["consentLedger"]["leafHash"]) == (proven["id"], proven["leafHash"])


def test_the_example_receipt_proves_itself() -> None:
    receipt = CONTRACT["components"]["examples"]["receiptProven"]["value"]
    proof = parse_proof(receipt["proof"].encode())
    proof.check(b64decode(receipt["leafHash"]))
    assert (proof.index, check_origin(proof.checkpoint.origin)) == (receipt["seq"], receipt["site"])
    entry = decode(b64decode(receipt["entry"]))
    event = decode_payload(b64decode(receipt["payload"]), Event)
    assert commitment(b64decode(receipt["salt"]), b64decode(receipt["payload"])) == entry.commit
    assert leaf_hash(b64decode(receipt["entry"])) == b64decode(receipt["leafHash"])
    assert (entry.seq, event.id, event.site) == (receipt["seq"], receipt["id"], receipt["site"])


def test_the_example_problem_is_of_a_kind_that_there_is() -> None:
    problem = CONTRACT["components"]["examples"]["problem"]["value"]
    kind = KINDS[problem["type"].removeprefix(TYPE_PREFIX)]
    assert (kind.status, kind.title) == (problem["status"], problem["title"])


@pytest.mark.parametrize(
    ("name", "struct"),
    [
        *(
            (name, getattr(messages, name))
            for name in ("Receipt", "ReceiptMinimal", "Problem", "BatchResult", "Consent")
        ),
        *((name, getattr(messages, name)) for name in ("PurposeDecision", "CheckInput", "CheckResults", "History")),
        *((name, getattr(messages, name)) for name in ("PolicyPublished", "Readiness", "ConsistencyProof")),
        *((name, getattr(messages, name)) for name in ("PolicyList", "PolicyDiff", "DocumentStored")),
        *(
            (name, getattr(messages, name))
            for name in ("DownloadInput", "Download", "ErasuresConfirmInput", "ErasuresConfirmed")
        ),
        *((name, getattr(person_messages, name)) for name in ("PersonExport", "PersonEvent")),
        *((name, getattr(request_messages, name)) for name in ("RequestInput", "RequestChallenge", "RequestProof")),
        *((name, getattr(request_messages, name)) for name in ("RequestProven", "RequestStatus", "RequestStep")),
        *(
            (name, getattr(request_messages, name))
            for name in ("RequestRegistration", "RequestStepInput", "RequestList")
        ),
        ("NoticeArtefact", NoticeArtefact),
        *((name, getattr(events, name)) for name in ("EventInput", "Event")),
    ],
)
def test_a_schema_has_the_members_of_its_message(name: str, struct: Any) -> None:
    schema = CONTRACT["components"]["schemas"][name]
    fields = dict(zip(struct.__struct_fields__, struct.__struct_encode_fields__, strict=True))
    assert set(schema["properties"]) == set(fields.values())
    optional = len(struct.__struct_defaults__)
    required = struct.__struct_encode_fields__[: len(fields) - optional]
    assert set(schema["required"]) == set(required)
    assert schema["additionalProperties"] is False


def test_the_bounds_in_words_are_the_bounds_in_force() -> None:
    text = CONTRACT_YAML.read_text("utf-8")
    assert f"up to {config.CHECK_MAX_ANSWERS:,} answers" in text
    assert "at most 16 KiB" in text
    assert "at most 10,000 lines and 8 MiB" in text
    assert (config.REQUEST_ADDRESS_MAX, config.REQUEST_ADDRESS_SECONDS) == (30, 60)
    assert "answers 30 challenges with `kind` at once and one more a minute" in text


async def test_the_examples_of_requests_are_answered_as_described(client: Client) -> None:
    for path, method, operation in operations():
        for media_type, content in operation.get("requestBody", {}).get("content", {}).items():
            for example in content.get("examples", {}).values():
                value = resolve(example)["value"]
                answer = await client.call(
                    method.upper(),
                    path.replace("{site}", "weco.nexaxt.com"),
                    key=client.api.secret,
                    data=value if isinstance(value, str) else json.dumps(value),
                    headers={"Content-Type": media_type},
                )
                assert answer.status in (200, 201), answer.body
                if media_type == "application/x-ndjson":
                    assert [json.loads(line)["status"] for line in answer.body.splitlines()] == [201, 201]
