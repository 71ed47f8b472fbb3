"""What records of consent say: an ISO/IEC TS 27560 record that is JSON-LD and whole, a Consent Receipt that holds."""

from __future__ import annotations

import json
from base64 import b64decode
from dataclasses import dataclass
from typing import Any

import jwt
import msgspec
import pytest
from pyld import jsonld

from ledger.core.ed25519 import SigningKey
from ledger.core.errors import InputRefused
from ledger.core.jws import thumbprint
from ledger.core.note import TYPE_ED25519, parse_vkey
from ledger.core.receipt import Verdict, verify_receipt
from ledger.messages import PurposeDecision
from ledger.records import facts, iso27560, kantara
from ledger.records.dossier import Dossier
from ledger.records.jose import jwk, jwk_set
from tests.records import ACCOUNT, CHOICELESS, ENDED, EVENTS, POLICY, SHOWN, denied, document, dossier, event

KEY = SigningKey(bytes(range(32)))
DPV, DCT, SCHEMA = "https://w3id.org/dpv#", "http://purl.org/dc/terms/", "https://schema.org/"
SKOS, RDF = "http://www.w3.org/2004/02/skos/core#", "http://www.w3.org/1999/02/22-rdf-syntax-ns#"

Node = dict[str, Any]


@dataclass(frozen=True)
class Field:
    """A field that DPVCG's guide says MUST be present: where it is looked for, and the path from there."""

    name: str
    of: str
    path: tuple[str, ...]


MANDATORY = (
    Field("receipt: Schema Version", "receipt", (DCT + "conformsTo",)),
    Field("receipt: Receipt Identifier", "receipt", (DPV + "hasIdentifier",)),
    Field("receipt: Associated Consent Record", "receipt", (DPV + "hasRecordOfActivity",)),
    Field("receipt: Creation Timestamp", "receipt", (DCT + "created",)),
    Field("Schema Version (schema_version)", "record", (DCT + "conformsTo",)),
    Field("Record Identifier (record_id)", "record", (DCT + "identifier",)),
    Field("Record Identifier, as DPV has it", "record", (DPV + "hasIdentifier",)),
    Field("Data Subject (pii_principal_id)", "record", (DPV + "hasDataSubject", DCT + "identifier")),
    Field("Notice (privacy_notice)", "record", (DPV + "hasNotice",)),
    Field("Notice Language (language)", "record", (DPV + "hasNotice", DCT + "language")),
    Field("Process", "record", (DPV + "hasProcess",)),
    Field("Purpose (purposes)", "process", (DPV + "hasPurpose", DCT + "description")),
    Field("purpose type", "process", (DPV + "hasPurpose", SKOS + "broader")),
    Field("Legal Basis (lawful_basis)", "process", (DPV + "hasLegalBasis",)),
    Field("Personal Data (pii_information)", "process", (DPV + "hasPersonalData",)),
    Field("Personal Data Type (pii_type)", "process", (DPV + "hasPersonalData", SKOS + "broader")),
    Field("Processing Operations (processing_method)", "process", (DPV + "hasProcessing",)),
    Field("Data Source (collection_method)", "process", (DPV + "hasDataSource",)),
    Field("Storage Condition (storage_locations, retention_period)", "process", (DPV + "hasStorageCondition",)),
    Field("retention_period", "process", (DPV + "hasStorageCondition", DPV + "hasDuration", RDF + "value")),
    Field("Data Controller (pii_controllers)", "process", (DPV + "hasDataController",)),
    Field("Recipients (recipient_third_parties)", "process", (DPV + "hasRecipient",)),
    Field("Consent Change & Withdrawal (withdrawal_method)", "record", (DPV + "hasConsentControl",)),
    Field("where withdrawal is exercised", "record", (DPV + "hasConsentControl", DPV + "isExercisedAt")),
    Field("Jurisdiction (jurisdiction)", "record", (DPV + "hasJurisdiction",)),
    Field("Rights (privacy_rights)", "record", (DPV + "hasRight", DPV + "isExercisedAt")),
    Field("authority party", "record", (DPV + "hasAuthority",)),
    Field("Name (party_name)", "entity", (DPV + "hasName",)),
    Field("Identifier (party_id)", "entity", (DPV + "hasIdentifier",)),
    Field("Role (party_role, party_type)", "entity", ("@type",)),
    Field("Contact (party_contact)", "entity", (SCHEMA + "contactPoint",)),
    Field("Postal Address (party_address)", "entity", (SCHEMA + "address", SCHEMA + "streetAddress")),
    Field("Consent Type (event_type)", "event", (DPV + "hasLegalBasis",)),
    Field("Consent State (event_state)", "event", ("@type",)),
    Field("Event Time (event_time)", "event", (DPV + "isIndicatedAtTime",)),
    Field("Event Duration (validity_duration)", "event", (DPV + "hasDuration", RDF + "value")),
    Field("Expression by Entity (entity_id)", "event", (DPV + "isIndicatedBy",)),
    Field("Expression Method", "event", (DPV + "hasIndicationMethod",)),
)
WITH_RECORD = EVENTS | ENDED


def refuse_to_load(url: str, options: dict[str, Any]) -> None:
    raise AssertionError(f"reading the record wants {url} from the network")


def expanded(made: Dossier) -> Node:
    """The receipt as any JSON-LD processor sees it, every term an absolute IRI."""
    (receipt,) = jsonld.expand(json.loads(iso27560.render(made)), {"documentLoader": refuse_to_load})
    return dict(receipt)


def values(node: Node, path: tuple[str, ...]) -> list[Any]:
    found: list[Any] = [node]
    for step in path:
        found = [inner for outer in found for inner in outer.get(step, [])]
    return found


def parts(receipt: Node) -> dict[str, list[Node]]:
    (record,) = values(receipt, (DPV + "hasRecordOfActivity",))
    processes = values(record, (DPV + "hasProcess",))
    return {
        "receipt": [receipt],
        "record": [record],
        "process": processes,
        "entity": values(record, (DPV + "hasEntity",)),
        "event": [status for process in processes for status in values(process, (DPV + "hasConsentStatus",))],
    }


def states(made: Dossier) -> dict[str, str]:
    """Purpose -> state, of the expanded record."""
    return {
        values(process, (DPV + "hasPurpose", DCT + "identifier"))[0]["@value"]: values(
            process, (DPV + "hasConsentStatus", "@type")
        )[0].removeprefix(DPV)
        for process in parts(expanded(made))["process"]
    }


# --- ISO/IEC TS 27560 -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", WITH_RECORD)
def test_a_record_is_json_ld_with_every_mandatory_field_of_the_guide(name: str) -> None:
    found = parts(expanded(dossier(WITH_RECORD[name])))
    for field in MANDATORY:
        for node in found[field.of]:
            assert values(node, field.path), f"{field.name} of {node.get('@id')}"
        assert found[field.of], field.name


def test_what_the_policy_leaves_open_is_said_to_be_so_and_nothing_is_made_up() -> None:
    bare = document(
        "# YAML\n{site: weco.nexaxt.com, controller: {name: A shop}, languages: [en], origins: [https://weco.nexaxt.com],"
        " policy: {version: '1.0', effectiveAt: 2026-01-01, url: https://weco.nexaxt.com/c}, renewAfter: P12M,"
        " purposes: {analytics: {title: {en: Analytics}, description: {en: Counts.}}}}"
    )
    made = dossier(event(region=None, shown=None), bare)
    found = parts(expanded(made))
    for field in MANDATORY:
        if field.name != "authority party":
            assert all(values(node, field.path) for node in found[field.of]), field.name
    text = iso27560.render(made).decode()
    assert text.count("not stated in the policy") >= 3
    assert "the policy does not itemise the data" in text
    assert "loc:" not in json.dumps(json.loads(text)["dpv:hasRecordOfActivity"])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("grant", {"analytics": "ConsentGiven", "marketing": "ConsentGiven"}),
        ("refusal", {"analytics": "ConsentRefused", "marketing": "ConsentRefused"}),
        ("partial", {"analytics": "ConsentGiven", "marketing": "ConsentRefused"}),
        (
            "withdrawal",
            dict.fromkeys(("analytics", "marketing", "terms", "abroad", "age"), "ConsentWithdrawn"),
        ),
        ("acceptance", {"terms": "ConsentGiven"}),
        ("expired", {"analytics": "ConsentExpired"}),
        ("invalidated", {"analytics": "ConsentInvalidated"}),
        (
            "dismissed",
            dict.fromkeys(("analytics", "marketing", "terms", "abroad", "age"), "ConsentRequestDeferred"),
        ),
    ],
)
def test_each_purpose_has_its_own_state(name: str, expected: dict[str, str]) -> None:
    assert states(dossier(WITH_RECORD[name])) == expected


def test_a_denial_of_what_was_granted_before_is_a_withdrawal_by_whatever_name_it_came() -> None:
    made = dossier(denied())
    after = {
        "analytics": PurposeDecision(
            decision="denied", reason="withdrawn", ask=False, notify=False, status="ConsentWithdrawn", seq=2
        )
    }
    assert made.receipt.seq == 2
    assert states(made._replace(after=after)) == {"analytics": "ConsentWithdrawn", "marketing": "ConsentRefused"}


def test_a_purpose_that_the_policy_does_not_know_is_recorded_as_such() -> None:
    made = dossier(denied(decisions={"profiling": "denied"}))
    assert states(made) == {"profiling": "ConsentRefused"}
    assert "not a purpose of this policy version" in iso27560.render(made).decode()


def test_a_denial_before_any_policy_has_a_record_that_says_so() -> None:
    made = dossier(denied(policy_version=None, shown=None))._replace(document=None, document_sha256="", cited=False)
    assert states(made) == {"analytics": "ConsentRefused", "marketing": "ConsentRefused"}
    assert "the site had no policy in force" in iso27560.render(made).decode()
    found = parts(expanded(made))
    for field in MANDATORY:
        if field.name != "authority party":
            assert all(values(node, field.path) for node in found[field.of]), field.name
    assert kantara.claims(made, KEY.public)["services"][0]["purposes"][0]["purpose"] == "analytics"


def test_who_performed_the_act_is_told_guardian_visitor_or_ledger() -> None:
    def by(what: str) -> set[str]:
        (status, *_) = parts(expanded(dossier(WITH_RECORD[what])))["event"]
        return {
            one["@id"].removeprefix(DPV).partition("#")[2] or one["@id"].removeprefix(DPV)
            for one in values(status, (DPV + "isIndicatedBy",))
        }

    assert by("grant") == {"DataSubject"}
    assert by("guardian") == {"GuardianOfDataSubject"}
    assert by("expired") == {"controller"}


def test_a_choice_for_an_account_says_so_by_the_keyed_hash() -> None:
    assert f'"cl:account": "{ACCOUNT}"' in iso27560.render(dossier(EVENTS["account scope"])).decode()
    assert "cl:account" not in iso27560.render(dossier(EVENTS["partial"])).decode()


def test_the_notice_is_the_one_that_was_shown_and_the_policy_with_version_and_language() -> None:
    (record,) = parts(expanded(dossier()))["record"]
    shown, policy = values(record, (DPV + "hasNotice",))
    assert shown["@id"] == f"https://ledger.example/documents/{SHOWN}"
    assert policy["@id"] == f"https://ledger.example/documents/{'cd' * 32}"
    assert values(policy, (DCT + "hasVersion",)) == [{"@value": "1.0"}]
    assert values(policy, (DCT + "language",)) == [{"@value": "en"}]
    uncited = dossier(EVENTS["citing nothing"])
    assert "the policy version in force at that time" in iso27560.render(uncited).decode()


def test_the_ledgers_own_receipt_lies_within_and_verifies() -> None:
    made = dossier()
    proof = json.loads(iso27560.render(made))["dct:provenance"]
    receipt = {name.removeprefix("cl:"): value for name, value in proof.items() if name.startswith("cl:")}
    log_key = receipt.pop("logKey")
    checkpoint = receipt.pop("checkpoint")
    assert checkpoint.startswith(receipt.pop("logOrigin") + "\n")
    report = verify_receipt(json.dumps(receipt).encode(), parse_vkey(log_key, TYPE_ED25519))
    assert report.verdict == Verdict.VERIFIED
    unproven = json.loads(iso27560.render(dossier(proven=False)))["dct:provenance"]
    assert "cl:proof" not in unproven


def test_words_of_a_policy_are_never_terms() -> None:
    """Whatever an author writes, the record has the same terms and no other."""
    hostile = POLICY.replace("en: Counts visits.", """en: '"@id": "urn:evil"'""")
    hostile = hostile.replace("name: Google Ireland", "name: '#x https://evil.example/@type'")
    assert hostile.count("evil") == 2
    assert terms(expanded(dossier(policy=document(hostile)))) == terms(expanded(dossier()))


def terms(node: Any) -> set[str]:
    """Every property and every class that a record uses."""
    if isinstance(node, list):
        return set().union(*map(terms, node)) if node else set()
    if not isinstance(node, dict):
        return set()
    return {*node, *(node.get("@type", []) if "@value" not in node else [])}.union(*map(terms, node.values()))


@pytest.mark.parametrize("name", CHOICELESS)
def test_an_event_without_a_choice_has_no_consent_record(name: str) -> None:
    for render in (iso27560.render, lambda made: kantara.render(made, KEY)):
        with pytest.raises(InputRefused, match="format=html") as refused:
            render(dossier(CHOICELESS[name]))
        assert refused.value.kind == "no-consent-in-event"


# --- Kantara ----------------------------------------------------------------------------------------------------------

CR_MEMBERS = {
    "version": str,
    "jurisdiction": str,
    "consentTimestamp": int,
    "collectionMethod": str,
    "consentReceiptID": str,
    "publicKey": str,
    "language": str,
    "piiPrincipalId": str,
    "piiControllers": list,
    "policyUrl": str,
    "services": list,
    "sensitive": bool,
    "spiCat": list,
}
CR_CONTROLLER = {"piiController": str, "contact": str, "address": dict, "email": str, "phone": str}
CR_PURPOSE = {
    "purpose": str,
    "purposeCategory": list,
    "consentType": str,
    "piiCategory": list,
    "primaryPurpose": bool,
    "termination": str,
    "thirdPartyDisclosure": bool,
}


def decoded(token: bytes, key_set: bytes) -> dict[str, Any]:
    """The claims, as PyJWT finds them good with a key of the set."""
    kid = jwt.get_unverified_header(token)["kid"]
    found = jwt.PyJWKSet.from_json(key_set.decode())[kid]
    options: Any = {"verify_iat": False}  # the log's clock in tests runs ahead of ours
    return dict(jwt.decode(token, found.key, algorithms=["EdDSA"], options=options))


@pytest.mark.parametrize("name", EVENTS)
def test_a_consent_receipt_has_every_member_of_the_specification_and_verifies_elsewhere(name: str) -> None:
    token = kantara.render(dossier(EVENTS[name]), KEY)
    claims = decoded(token, jwk_set([bytes(SigningKey(bytes(32)).public), KEY.public]))
    assert {member: type(claims[member]) for member in CR_MEMBERS} == CR_MEMBERS
    (controller,) = claims["piiControllers"]
    assert {member: type(controller[member]) for member in CR_CONTROLLER} == CR_CONTROLLER
    (service,) = claims["services"]
    assert service["purposes"]
    for purpose in service["purposes"]:
        assert {member: type(purpose[member]) for member in CR_PURPOSE} == CR_PURPOSE
        assert ("thirdPartyName" in purpose) == purpose["thirdPartyDisclosure"]
    assert claims["version"] == "KI-CR-v1.1.0"
    assert claims["consentReceiptID"] == claims["jti"] == EVENTS[name].id
    assert claims["piiPrincipalId"] == claims["sub"] == EVENTS[name].visitor


def test_a_changed_receipt_or_another_key_does_not_verify() -> None:
    token = kantara.render(dossier(), KEY)
    head, body, signature = token.split(b".")
    changed = body[:-4] + (b"AAAA" if body[-4:] != b"AAAA" else b"AAAB")
    for bad in (b".".join((head, changed, signature)), b".".join((head, body, signature[:-8] + b"AAAAAAAA"))):
        with pytest.raises(jwt.InvalidTokenError):
            decoded(bad, jwk_set([KEY.public]))
    forged = jwk(SigningKey(bytes(32)).public) | {"kid": thumbprint(KEY.public)}
    with pytest.raises(jwt.InvalidSignatureError):
        decoded(token, json.dumps({"keys": [forged]}).encode())


def test_a_denial_is_never_taken_for_consent() -> None:
    for name in ("refusal", "withdrawal", "partial"):
        made = dossier(EVENTS[name])
        (service,) = kantara.claims(made, KEY.public)["services"]
        by_purpose = {purpose["purposeId"]: purpose["consentType"] for purpose in service["purposes"]}
        granted = {purpose for purpose, answer in EVENTS[name].decisions.items() if answer == "granted"}
        assert {purpose for purpose, kind in by_purpose.items() if kind == "EXPLICIT"} == granted


def test_the_time_of_a_consent_receipt_is_in_seconds_and_a_wrong_clock_does_not_move_it() -> None:
    made = dossier(event(occurred_at="2031-01-01T00:00:00.000Z", sent_at="2031-01-01T00:00:05.000Z"))
    assert kantara.claims(made, KEY.public)["consentTimestamp"] == (made.recorded_ms - 5_000) // 1000


def test_a_key_is_named_by_its_thumbprint() -> None:
    """RFC 8037, appendix A.3."""
    public = bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
    assert thumbprint(public) == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
    assert jwt.PyJWK.from_dict(jwk(public)).key.public_bytes_raw() == public


# --- what all renderings share ----------------------------------------------------------------------------------------


def test_the_facts_that_the_law_of_kazakhstan_names() -> None:
    policy = document()
    by_purpose = {one.purpose: one for one in facts.answers(dossier(EVENTS["withdrawal"]))}
    expected = {  # third parties, across the border, published
        "analytics": (True, True, False),
        "marketing": (False, False, True),
        "abroad": (False, True, False),
        "age": (False, False, False),
    }
    for purpose, answer in expected.items():
        found = [by_purpose[purpose]]
        told = (facts.has_third_parties(found), facts.crosses_border(policy, found), facts.is_published(found))
        assert told == answer, purpose
    nowhere = msgspec.structs.replace(
        policy, controller=msgspec.structs.replace(policy.controller, country=None, bin=None)
    )
    assert facts.crosses_border(nowhere, [by_purpose["analytics"]]) is None


@pytest.mark.parametrize(
    ("table", "region", "age"),
    [
        ({"default": 16, "KZ": 18}, "KZ", 18),
        ({"default": 16, "KZ": 18}, "DE", 16),
        ({"default": 16, "KZ": 18}, None, 18),
        ({"EU": 16, "US": 13}, "KZ", 16),
        ({}, "KZ", None),
    ],
)
def test_of_an_unknown_place_the_highest_age_is_told(
    table: dict[str, int], region: str | None, age: int | None
) -> None:
    assert facts.minimum_age(table, region) == age


def test_of_a_partial_event_the_facts_are_those_of_what_was_granted() -> None:
    found = facts.answers(dossier())
    assert [one.purpose for one in facts.concerned(found)] == ["analytics"]
    assert not facts.is_published(facts.concerned(found))
    assert len(facts.concerned(facts.answers(dossier(EVENTS["refusal"])))) == 2


@pytest.mark.parametrize(
    ("language", "expected"),
    [("ru", "б"), ("ru-KZ", "б"), ("kk", "в"), ("en-GB", "a"), ("de", "a")],
)
def test_a_text_is_had_in_the_nearest_language(language: str, expected: str) -> None:
    assert facts.text_in({"en": "a", "ru": "б", "kk-Cyrl": "в"}, language, ("en", "ru")) == expected


def test_a_receipt_carries_what_was_recorded_byte_for_byte() -> None:
    made = dossier()
    assert json.loads(b64decode(made.receipt.payload))["id"] == made.event.id
