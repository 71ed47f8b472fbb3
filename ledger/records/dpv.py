"""The vocabulary of JSON-LD records: prefixes, W3C DPV's terms for our own words, and the context that they need.

The terms are those of DPV 2 (https://w3id.org/dpv); what a record says with them is in records/iso27560.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from ledger.core.document import LegalBasis, Texts
from ledger.records import facts

NOT_STATED = "not stated in the policy"

PREFIXES = {
    "dpv": "https://w3id.org/dpv#",
    "pd": "https://w3id.org/dpv/pd#",
    "loc": "https://w3id.org/dpv/loc#",
    "eu-gdpr": "https://w3id.org/dpv/legal/eu/gdpr#",
    "dct": "http://purl.org/dc/terms/",
    "schema": "https://schema.org/",
    "skos": "http://www.w3.org/2004/02/skos/core#",
    "rdf": "http://www.w3.org/1999/02/22-rdf-syntax-ns#",
    "xsd": "http://www.w3.org/2001/XMLSchema#",
    "cl": "urn:consent-ledger:term:",
}
_REFERENCES = (
    "dct:conformsTo",
    "dpv:hasConsentStatus",
    "dpv:hasDataController",
    "dpv:hasJurisdiction",
    "dpv:hasLegalBasis",
    "dpv:hasLocation",
    "dpv:hasNecessity",
    "dpv:hasProcessing",
    "dpv:isIndicatedBy",
    "skos:broader",
)
_TIMES = ("dct:created", "dct:date", "dpv:isIndicatedAtTime")
CONTEXT: Mapping[str, Any] = {
    **PREFIXES,
    **{name: {"@type": "@id"} for name in _REFERENCES},
    **{name: {"@type": "xsd:dateTime"} for name in _TIMES},
}

TERM = re.compile(r"(?:dpv|pd|eu-gdpr):[A-Za-z][A-Za-z0-9-]*")
BASES: Mapping[LegalBasis, str] = {
    "consent": "dpv:ExpressedConsent",
    "legitimate_interest": "dpv:LegitimateInterest",
    "contract": "dpv:Contract",
    "legal_obligation": "dpv:LegalObligation",
    "vital_interest": "dpv:VitalInterest",
    "public_task": "dpv:PublicInterest",
    "exemption": "dpv:LegalBasis",
}
ROLES = {
    "processor": "dpv:DataProcessor",
    "controller": "dpv:ThirdParty",
    "joint_controller": "dpv:JointDataControllers",
}
TRANSFERS = {
    "adequacy": "adequacy decision",
    "consent": "the data subject's consent",
    "contractual_clauses": "standard contractual clauses",
    "binding_rules": "binding corporate rules",
    "derogation": "a derogation",
}
METHODS = {
    "accept_all": "accepted everything in the notice",
    "only_necessary": "kept to what is strictly necessary in the notice",
    "customize": "chose purpose by purpose in the notice",
    "settings": "changed the choice in the settings",
    "withdraw": "took consent back",
    "dismiss": "closed the notice without an answer",
    "gpc": "the browser sent a Global Privacy Control signal",
    "api": "recorded by a backend for the visitor",
    "import": "taken over from another system's record",
    "guardian": "a guardian acted for a child",
}
RIGHTS = (
    ("Right to withdraw consent", "eu-gdpr:A7-3"),
    ("Right of access", "eu-gdpr:A15"),
    ("Right to rectification", "eu-gdpr:A16"),
    ("Right to erasure", "eu-gdpr:A17"),
    ("Right to data portability", "eu-gdpr:A20"),
    ("Right to object", "eu-gdpr:A21"),
)


def texts_of(texts: Texts) -> list[dict[str, str]]:
    """A text in every language that it has."""
    return [{"@value": text, "@language": language} for language, text in texts.items()]


def places(regions: Iterable[str]) -> list[str]:
    """Terms of DPV's LOC, which are ISO 3166's; a place that it does not have is left out."""
    found = [f"loc:{'GB' if region == 'UK' else region}" for region in regions if facts.is_country(region)]
    return list(dict.fromkeys(found)) or ["dpv:Location"]
