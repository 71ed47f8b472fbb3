"""A consent receipt with its consent record as of ISO/IEC TS 27560:2023, in JSON-LD with W3C DPV's terms.

The fields and their terms are those of DPVCG's guide (https://w3id.org/dpv/guides/consent-27560). The context stands in
the document, so nothing has to be fetched to read it. What the policy leaves open is said to be "not stated".
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import orjson

from ledger.core.document import DataCategory, SiteDocument
from ledger.core.encoding import encode_time
from ledger.records import facts
from ledger.records.dossier import Dossier
from ledger.records.dpv import BASES, CONTEXT, METHODS, NOT_STATED, RIGHTS, TERM, places, texts_of
from ledger.records.facts import Answered
from ledger.records.parties import entities, recipient_ids

MEDIA_TYPE = "application/ld+json"

RECORD_SCHEMA = "https://w3id.org/dpv/schema/dpv-27560#record"
RECEIPT_SCHEMA = "https://w3id.org/dpv/schema/dpv-27560#receipt-record"


def render(dossier: Dossier) -> bytes:
    """The receipt as JSON-LD; `InputRefused` for an event that holds no choice and ends none."""
    found = facts.recorded_answers(dossier)
    where = f"{dossier.base_url}/v1/sites/{dossier.receipt.site}/receipts/{dossier.receipt.id}"
    receipt = {
        "@context": CONTEXT,
        "@id": f"{where}?format=iso27560",
        "@type": "dpv:ConsentReceipt",
        "dct:conformsTo": RECEIPT_SCHEMA,
        "dct:identifier": dossier.receipt.position,
        "dpv:hasIdentifier": dossier.receipt.position,
        "dct:created": encode_time(dossier.generated_ms),
        "dct:provenance": _proof(dossier),
        "dpv:hasRecordOfActivity": _record(dossier, where, found),
    }
    return orjson.dumps(receipt, option=orjson.OPT_INDENT_2)


def _record(dossier: Dossier, where: str, found: tuple[Answered, ...]) -> dict[str, Any]:
    document = dossier.document
    record: dict[str, Any] = {
        "@id": where,
        "@type": "dpv:ConsentRecord",
        "dct:conformsTo": RECORD_SCHEMA,
        "dct:identifier": dossier.receipt.id,
        "dpv:hasIdentifier": dossier.receipt.id,
        "dct:created": dossier.receipt.recorded_at,
        "dpv:hasDataSubject": _subject(dossier),
        "dpv:hasDataController": f"{where}#controller",
        "dpv:hasJurisdiction": places(facts.jurisdictions(dossier)),
        "dpv:hasNotice": _notices(dossier),
        "dpv:hasProcess": [_process(dossier, where, answered) for answered in found],
        "dpv:hasConsentStatus": [_status_id(where, answered) for answered in found],
        "dpv:hasConsentControl": _controls(dossier, found),
        "dpv:hasRight": _rights(dossier),
        "dpv:hasEntity": entities(dossier, where, found),
    }
    if document is not None and document.laws:
        record["dpv:hasApplicableLaw"] = [{"@type": "dpv:Law", "dct:title": law} for law in document.laws]
    if document is not None and document.authorities:
        record["dpv:hasAuthority"] = [{"@id": f"{where}#authority-{n}"} for n in range(len(document.authorities))]
    return record


def _subject(dossier: Dossier) -> dict[str, Any]:
    """A pseudonym: the random id of a browser, or the keyed hash of an account. The ledger knows no name."""
    event = dossier.event
    subject = {
        "@type": "dpv:DataSubject",
        "dct:identifier": event.visitor,
        "dct:description": "pseudonymous: a random identifier that the site gave to a browser",
    }
    if facts.is_about_account(event):
        subject["cl:account"] = str(event.account)
        subject["dct:description"] += "; the choice was made for every browser of the account"
    return subject


def _notices(dossier: Dossier) -> list[dict[str, Any]]:
    """What was shown, where that is on record, and the policy with its own versioned document."""
    event, document = dossier.event, dossier.document
    languages = [event.language] if event.language else list(document.languages) if document else []
    policy: dict[str, Any] = {
        "@type": "dpv:ConsentNotice",
        "dct:language": languages or ["und"],
    }
    if document is not None:
        policy["@id"] = facts.document_url(dossier)
        policy["dct:hasVersion"] = document.version
        policy["dct:date"] = encode_time(document.effective_ms)
        policy["schema:url"] = document.policy.url
        policy["dct:description"] = (
            "the policy version that the event cites" if dossier.cited else "the policy version in force at that time"
        )
    else:
        policy["dct:description"] = "the site had no policy in force"
    notices = [policy]
    if event.shown is not None:
        notices.insert(
            0,
            {
                "@id": f"{dossier.base_url}/documents/{event.shown}",
                "@type": "dpv:ConsentNotice",
                "dct:language": languages or ["und"],
                "dct:description": "the very document that was shown",
            },
        )
    return notices


def _process(dossier: Dossier, where: str, answered: Answered) -> dict[str, Any]:
    document, terms = dossier.document, answered.terms
    purpose: dict[str, Any] = {"@type": "dpv:Purpose", "dct:identifier": answered.purpose}
    kinds = [] if terms is None else [term for term in terms.dpv if TERM.fullmatch(term)]
    if terms is None:
        purpose["dct:description"] = "not a purpose of this policy version"
    else:
        purpose["dct:title"] = texts_of(terms.title)
        purpose["dct:description"] = texts_of(terms.description)
        purpose["cl:kind"] = terms.kind
        if terms.document is not None:
            purpose["cl:document"] = {"@id": f"{dossier.base_url}/documents/{terms.document}"}
        if terms.minimum_age:
            purpose["cl:minimumAge"] = facts.minimum_age(terms.minimum_age, dossier.event.region)
        if terms.destination is not None:
            purpose["cl:destination"] = terms.destination
    purpose["skos:broader"] = [term for term in kinds if not term.startswith("pd:")] or ["dpv:Purpose"]
    process: dict[str, Any] = {
        "@id": f"{where}#purpose-{answered.purpose}",
        "@type": "dpv:Process",
        "dpv:hasPurpose": purpose,
        "dpv:hasNecessity": "dpv:Optional",
        "dpv:hasLegalBasis": BASES[facts.legal_basis(terms, dossier.event.region)],
        "dpv:hasPersonalData": _personal_data(document, answered),
        "dpv:hasProcessing": ["dpv:Collect", "dpv:Store", "dpv:Use", *_sharing(answered)],
        "dpv:hasDataSource": {"@type": "dpv:DataSubjectDataSource"},
        "dpv:hasStorageCondition": _storage(document, answered),
        "dpv:hasDataController": f"{where}#controller",
        "dpv:hasRecipient": recipient_ids(where, answered),
        "dpv:hasService": {"@type": "dpv:Service", "dct:title": dossier.receipt.site},
        "dpv:hasConsentStatus": _status(dossier, where, answered),
    }
    where_to = [recipient.region for recipient in facts.recipients([answered]) if recipient.region]
    if terms is not None and terms.destination is not None:
        where_to.append(terms.destination)
    if where_to:
        process["dpv:hasLocation"] = places(where_to)
    if terms is not None and terms.laws:
        process["dpv:hasApplicableLaw"] = [{"@type": "dpv:Law", "dct:title": law} for law in terms.laws]
    return process


def _personal_data(document: SiteDocument | None, answered: Answered) -> list[dict[str, Any]]:
    terms = answered.terms
    if terms is not None and terms.data:
        return [_category(name, category) for name, category in terms.data.items()]
    names = [cookie.name or cookie.pattern or "" for _, cookie in facts.cookies([answered])]
    stored = f"; it declares this storage in the browser: {', '.join(names)}" if names else ""
    return [
        {
            "@type": "dpv:PersonalData",
            "skos:broader": ["dpv:PersonalData"],
            "dct:description": f"the policy does not itemise the data{stored}",
        }
    ]


def _category(name: str, category: DataCategory) -> dict[str, Any]:
    term = category.dpv if category.dpv is not None and TERM.fullmatch(category.dpv) else "dpv:PersonalData"
    return {
        "@type": "dpv:PersonalData",
        "skos:broader": [term],
        "dct:identifier": name,
        "dct:title": texts_of(category.title),
    }


def _sharing(answered: Answered) -> list[str]:
    terms = answered.terms
    shared = ["dpv:Disclose"] if facts.recipients([answered]) else []
    shared += ["dpv:Transfer"] if terms is not None and terms.kind == "transfer" else []
    return shared + (["dpv:MakeAvailable"] if terms is not None and terms.publication else [])


def _storage(document: SiteDocument | None, answered: Answered) -> list[dict[str, Any]]:
    stored_in = () if document is None else document.stored_in
    retention = None if answered.terms is None else answered.terms.retention
    location: dict[str, Any] = {"@type": "dpv:StorageLocation"}
    if stored_in:
        location["dpv:hasLocation"] = places(stored_in)
    else:
        location["dct:description"] = NOT_STATED
    duration: dict[str, Any] = (
        {"@type": "dpv:TemporalDuration", "rdf:value": str(retention)}
        if retention is not None
        else {"@type": "dpv:UntilEventDuration", "rdf:value": NOT_STATED}
    )
    return [location, {"@type": "dpv:StorageDuration", "dpv:hasDuration": duration}]


def _status_id(where: str, answered: Answered) -> str:
    return f"{where}#event-{answered.purpose}"


def _status(dossier: Dossier, where: str, answered: Answered) -> dict[str, Any]:
    event, after = dossier.event, answered.after
    type_of_consent = BASES[facts.legal_basis(answered.terms, event.region)]
    by = "dpv:GuardianOfDataSubject" if event.action == "guardian" else "dpv:DataSubject"
    status: dict[str, Any] = {
        "@id": _status_id(where, answered),
        "@type": [f"dpv:{answered.state}"],
        "dpv:hasLegalBasis": type_of_consent,
        "dpv:isIndicatedAtTime": facts.event_time(dossier, answered),
        "dpv:hasDuration": _validity(dossier, answered),
        "dpv:isIndicatedBy": f"{where}#controller" if event.authentication == "ledger" else by,
        "dpv:hasIndicationMethod": _method(dossier),
    }
    if after is not None:
        status["cl:decisionAfter"] = after.decision
        status["cl:reason"] = after.reason
    return status


def _validity(dossier: Dossier, answered: Answered) -> dict[str, Any]:
    after = answered.after
    if not answered.granted:
        return {"@type": "dpv:UntilEventDuration", "rdf:value": "a later choice of the data subject"}
    if after is not None and after.valid_until is not None and after.decision == "granted":
        return {"@type": "dpv:UntilTimeDuration", "rdf:value": after.valid_until}
    if dossier.document is not None:
        renewal = dossier.document.renewal_of(answered.purpose)
        return {"@type": "dpv:TemporalDuration", "rdf:value": str(renewal)}
    return {"@type": "dpv:UntilEventDuration", "rdf:value": NOT_STATED}


def _method(dossier: Dossier) -> str:
    event = dossier.event
    words = METHODS.get(event.action or "", "recorded by the ledger itself")
    parts = [words]
    if event.component is not None:
        parts.append(f"with the control {event.component}")
    if event.gpc:
        parts.append("under a Global Privacy Control signal")
    if event.conditional:
        parts.append("access was made conditional on it")
    return "; ".join(parts)


def _controls(dossier: Dossier, found: Iterable[Answered]) -> list[dict[str, Any]]:
    document = dossier.document
    url = dossier.base_url if document is None else document.policy.url
    controls: list[dict[str, Any]] = [
        {
            "@type": ["dpv:WithdrawConsent"],
            "dpv:isExercisedAt": url,
            "dct:description": "the site's own consent settings, at any time, or its contacts",
        }
    ]
    for answered in found:
        terms = answered.terms
        if terms is not None and not terms.withdrawable:
            controls.append(
                {
                    "@type": ["dpv:WithdrawConsent"],
                    "dct:identifier": answered.purpose,
                    "dct:description": texts_of(terms.withdrawal_bar) or "withdrawal is barred",
                    "dpv:isExercisedAt": url,
                }
            )
    return controls


def _rights(dossier: Dossier) -> list[dict[str, Any]]:
    document = dossier.document
    url = dossier.base_url if document is None else document.policy.url
    return [
        {"@type": ["dpv:DataSubjectRight", term], "dct:title": title, "dpv:isExercisedAt": url}
        for title, term in RIGHTS
    ]


def _proof(dossier: Dossier) -> dict[str, Any]:
    """The ledger's receipt, whole: it is the evidence, and `consent-ledger receipt verify` takes these members."""
    receipt = dossier.receipt
    members = ("id", "site", "seq", "recorded_at", "leaf_hash", "entry", "salt", "payload", "position")
    camel = {"recorded_at": "recordedAt", "leaf_hash": "leafHash"}
    proof: dict[str, Any] = {
        "@type": ["dct:ProvenanceStatement", "cl:Receipt"],
        "dct:description": "the receipt of the ledger, by which this record can be checked without trusting anybody",
        **{f"cl:{camel.get(name, name)}": getattr(receipt, name) for name in members},
        "cl:logKey": dossier.log_vkey,
        "cl:logOrigin": dossier.log_vkey.partition("+")[0],
    }
    if receipt.proof:
        proof["cl:proof"] = receipt.proof
        proof["cl:checkpoint"] = facts.checkpoint_of(receipt.proof)
    return proof
