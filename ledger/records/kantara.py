"""A Consent Receipt as of Kantara's specification 1.1, as a JWT that the site's receipt key signs.

Its members are those of the specification's JSON form, beside the registered claims of RFC 7519. It says what was
granted; a purpose that was denied is there too, with a consent type that no reader takes for consent. The signature
says that this server rendered it: the evidence is the ledger's receipt, to which `consentLedger` points.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ledger.core.document import Controller, Purpose
from ledger.core.ed25519 import SigningKey
from ledger.core.encoding import decode_time
from ledger.core.errors import InputRefused
from ledger.core.jws import base64url
from ledger.records import facts
from ledger.records.dossier import Dossier
from ledger.records.facts import Answered
from ledger.records.jose import signed_jwt

VERSION = "KI-CR-v1.1.0"
NOT_STATED = "not stated in the policy"

_CONSENT_TYPES = {
    "ConsentGiven": "EXPLICIT",
    "ConsentRefused": "REFUSED",
    "ConsentWithdrawn": "WITHDRAWN",
}
_METHODS = {
    "api": "recorded by a backend for the visitor",
    "import": "taken over from another system's record",
    "gpc": "Global Privacy Control signal of the browser",
    "guardian": "by a guardian",
}


def render(dossier: Dossier, key: SigningKey) -> bytes:
    """The signed JWT; `InputRefused` for an event that holds no choice."""
    if dossier.event.type not in facts.DECIDING:
        raise InputRefused(
            "no-consent-in-event",
            f"An event {dossier.event.type} holds no choice, so there is no Consent Receipt of it; its receipt, "
            "without `format` or with format=html, is there.",
        )
    return signed_jwt(claims(dossier, key.public), key)


def claims(dossier: Dossier, public: bytes) -> dict[str, Any]:
    """What is signed. `public` is the key that will sign."""
    event, receipt, document = dossier.event, dossier.receipt, dossier.document
    found = facts.answers(dossier)
    language = facts.language_of(dossier)
    controller = Controller(name=receipt.site) if document is None else document.controller
    url = dossier.base_url if document is None else document.policy.url
    return {
        "iss": dossier.base_url,
        "sub": event.visitor,
        "jti": receipt.id,
        "iat": dossier.generated_ms // 1000,
        "version": VERSION,
        "jurisdiction": ", ".join(facts.jurisdictions(dossier)) or NOT_STATED,
        "consentTimestamp": decode_time(facts.event_time(dossier, found[0] if found else None)) // 1000,
        "collectionMethod": _method(dossier),
        "consentReceiptID": receipt.id,
        "publicKey": base64url(public),
        "language": language,
        "piiPrincipalId": event.visitor,
        "piiControllers": [_controller(controller, url)],
        "policyUrl": url,
        "services": [
            {
                "service": receipt.site,
                "purposes": [_purpose(dossier, language, answered) for answered in found],
            }
        ],
        "sensitive": False,
        "spiCat": [],
        "consentLedger": _evidence(dossier),
    }


def _method(dossier: Dossier) -> str:
    event = dossier.event
    words = _METHODS.get(event.action or "", f"web: {event.action}")
    if event.component is not None:
        words += f", control {event.component}"
    return f"{words}; access was made conditional on it" if event.conditional else words


def _controller(controller: Controller, url: str) -> dict[str, Any]:
    address = {"streetAddress": controller.address or NOT_STATED}
    if controller.country is not None:
        address["addressCountry"] = controller.country
    told: dict[str, Any] = {
        "piiController": controller.name,
        "onBehalf": False,
        "contact": controller.name,
        "address": address,
        "email": controller.email or NOT_STATED,
        "phone": controller.phone or NOT_STATED,
        "piiControllerUrl": url,
    }
    return told | ({"bin": controller.bin} if controller.bin else {})


def _purpose(dossier: Dossier, language: str, answered: Answered) -> dict[str, Any]:
    document, terms, after = dossier.document, answered.terms, answered.after
    languages = () if document is None else document.languages
    named = facts.recipients([answered])
    purpose: dict[str, Any] = {
        "purpose": answered.purpose if terms is None else facts.text_in(terms.title, language, languages),
        "purposeId": answered.purpose,
        "purposeCategory": _categories(terms),
        "consentType": _CONSENT_TYPES[answered.state],
        "piiCategory": _data(terms, language, languages),
        "primaryPurpose": False,
        "termination": _termination(dossier, answered),
        "thirdPartyDisclosure": facts.has_third_parties([answered]),
    }
    if named:
        purpose["thirdPartyName"] = ", ".join(_with_region(one.name, one.region) for one in named)
    elif purpose["thirdPartyDisclosure"]:
        purpose["thirdPartyName"] = "named with its cookies in the policy"
    if terms is not None:
        purpose["purposeDescription"] = facts.text_in(terms.description, language, languages)
    if after is not None:
        purpose["decisionAfter"] = after.decision
    return purpose


def _with_region(name: str, region: str | None) -> str:
    return name if region is None else f"{name} ({region})"


def _categories(terms: Purpose | None) -> list[str]:
    """DPV's terms where the policy gives some: of Kantara's own list few are about websites."""
    if terms is None:
        return ["unknown"]
    return list(terms.dpv) or [terms.kind]


def _data(terms: Purpose | None, language: str, languages: Iterable[str]) -> list[str]:
    if terms is None or not terms.data:
        return [NOT_STATED]
    return [facts.text_in(category.title, language, languages) for category in terms.data.values()]


def _termination(dossier: Dossier, answered: Answered) -> str:
    if not answered.granted:
        return "no consent is in force"
    after, document = answered.after, dossier.document
    until = None if after is None or after.decision != "granted" else after.valid_until
    bar = answered.terms is not None and not answered.terms.withdrawable
    until_when = f"until {until}" if until else f"after {document.renewal_of(answered.purpose)}" if document else "open"
    return f"{until_when}; withdrawal is barred" if bar else f"{until_when}, or when withdrawn"


def _evidence(dossier: Dossier) -> dict[str, Any]:
    receipt = dossier.receipt
    evidence: dict[str, Any] = {
        "site": receipt.site,
        "seq": receipt.seq,
        "position": receipt.position,
        "recordedAt": receipt.recorded_at,
        "leafHash": receipt.leaf_hash,
        "logOrigin": dossier.log_vkey.partition("+")[0],
        "receipt": f"{dossier.base_url}/v1/sites/{receipt.site}/receipts/{receipt.id}",
    }
    if dossier.document is not None:
        evidence["policyVersion"] = dossier.document.version
        evidence["policyDocument"] = facts.document_url(dossier)
        evidence["policyCited"] = dossier.cited
    if dossier.event.shown is not None:
        evidence["shown"] = f"{dossier.base_url}/documents/{dossier.event.shown}"
    if facts.is_about_account(dossier.event):
        evidence["account"] = dossier.event.account
    return evidence
