"""Exports of other tools as they really look, invented, and rows as an import sees them."""

from __future__ import annotations

import io
import json
import tempfile
from collections import Counter
from typing import Any

import msgspec

from ledger.core.event import EventInput
from ledger.importing.found import Format
from ledger.importing.mapping import Plan, SitePolicy, SitePurpose, SiteVersion, make_plan, read_mapping
from ledger.importing.run import Export, Outcome, outcomes

SITE = "shop.example.com"
NOW_MS = 1_790_000_000_000
KEY = bytes(range(32))
POLICY = SitePolicy(
    SITE,
    SiteVersion("1.0"),
    {
        "necessary": SitePurpose({"en": "Necessary"}, required=True),
        "preferences": SitePurpose({"en": "Preferences", "ru": "Предпочтения"}),
        "analytics": SitePurpose({"en": "Analytics and performance"}),
        "marketing": SitePurpose({"en": "Marketing"}),
    },
)

VISITOR = "5f0c8b9e-1f44-4a57-9d5e-2f1f0a8f7b11"
OTHER = "9a41d6de-02c1-4c0e-8a6c-6f1f5d9b7c22"
STAMP = "XLzc6qxtRqd7yq8Rr0mQ2fXJkzPq9w=="

COOKIEBOT = (
    "Consent ID,Date (UTC),Anonymised IP,Country,Necessary,Preferences,Statistics,Marketing,URL,User agent\r\n"
    f'{STAMP},2024-05-01 10:00:00,203.0.113.0,DE,true,true,false,true,"https://shop.example.com/a?mail=jo@example.org",'
    '"Mozilla/5.0 (X11; Linux x86_64) ""Gecko"", like it"\r\n'
    f"{VISITOR},2024-05-02 11:30:00,198.51.100.0,KZ,true,false,false,false,https://shop.example.com/,Mozilla/5.0\r\n"
)
COOKIEBOT_MAPPING = "purposes: {Statistics: analytics}\npolicyVersion: '1.0'"

ONETRUST_CSV = (
    "\ufeffReceipt ID;Data Subject Identifier;Interaction Date;"
    "Purpose Name;Purpose Version;Transaction Type;Language\r\n"
    '"r-1";"Jo.Public@Example.org";"2024-03-01T10:00:00.000+01:00";"Newsletter";"3";"CONFIRMED";"en-GB"\r\n'
    f'"r-2";"{VISITOR}";"2024-03-02T10:00:00Z";"Newsletter";"3";"WITHDRAWN";"de"\r\n'
    f'"r-3";"{VISITOR}";"2024-03-03T10:00:00Z";"Site usage";"3";"NO_CHOICE";"de"\r\n'
    f'"r-4";"{VISITOR}";"2024-03-04T10:00:00Z";"Site usage";"3";"CHANGE_PREFERENCES";"de"\r\n'
)
ONETRUST_MAPPING = """
purposes: {Newsletter: marketing, Site usage: analytics, 7a0f: analytics}
policyVersion: {"3": "1.0"}
"""
ONETRUST_JSON: dict[str, Any] = {
    "totalElements": 3,
    "content": [
        {
            "receiptId": "r-1",
            "identifier": VISITOR,
            "interactionDate": "2024-03-01T09:00:00Z",
            "language": "en",
            "purposes": [
                {"id": "77e1", "name": "Newsletter", "version": 3, "transactionType": "CONFIRMED"},
                {"id": "7a0f", "name": "Renamed since", "version": 3, "transactionType": "NOT_GIVEN"},
            ],
            "dataElements": [{"name": "FirstName", "value": "Jo"}],
        },
        {"receiptId": "r-2", "identifier": VISITOR, "interactionDate": "2024-03-02T09:00:00Z", "test": True,
         "purposes": [{"name": "Newsletter", "version": 3, "transactionType": "CONFIRMED"}]},
        {
            "id": "profile",
            "identifier": OTHER,
            "purposes": [
                {"name": "Newsletter", "version": 3, "status": "ACTIVE", "lastTransactionDate": "2024-04-01T00:00:00Z",
                 "expiryDate": "2024-10-01T00:00:00Z"},
                {"name": "Site usage", "version": 3, "status": "WITHDRAWN",
                 "lastTransactionDate": "2024-04-02T00:00:00Z"},
            ],
        },
    ],
}  # fmt: skip

DIDOMI = "\n".join(
    json.dumps(line)
    for line in (
        {
            "user": {"id": VISITOR, "organization_user_id": "jo@example.org", "country": "FR", "consents": {}},
            "events": [
                {
                    "id": "e-1",
                    "created_at": "2024-01-01T00:00:00.000Z",
                    "status": "confirmed",
                    "consents": {
                        "purposes": [
                            {"id": "analytics", "enabled": True},
                            {"id": "ads-Yx3", "enabled": False},
                            {"id": "preferences", "enabled": None},
                        ]
                    },
                },
                {
                    "id": "e-2",
                    "created_at": "2024-02-01T00:00:00Z",
                    "status": "pending_approval",
                    "consents": {"purposes": [{"id": "analytics", "enabled": True}]},
                },
            ],
        },
        {
            "id": "e-3",
            "user": {"id": OTHER},
            "created_at": "2024-03-01T00:00:00Z",
            "consents": {"purposes": {"enabled": [], "disabled": ["analytics", "ads-Yx3"]}},
        },
    )
)
DIDOMI_MAPPING = "purposes: {ads-Yx3: marketing}\npolicyVersion: '1.0'"

C15T: list[dict[str, Any]] = [
    {
        "id": "cns_1",
        "subjectId": "sub_4Nqz8dZk2Y6vWx3uRtAa",
        "domainId": "dom_1",
        "policyId": "pol_1",
        "purposeIds": ["pur_m"],
        "metadata": {"method": "PUT"},
        "ipAddress": "2001:db8::7",
        "userAgent": "Mozilla/5.0",
        "givenAt": "2024-06-01T08:00:00.000Z",
        "validUntil": None,
        "consentAction": "custom",
    },
    {
        "id": "cns_2",
        "subjectId": "sub_4Nqz8dZk2Y6vWx3uRtBb",
        "purposeIds": [],
        "givenAt": "2024-06-01T09:00:00.000Z",
        "consentAction": "reject_all",
    },
    {
        "id": "cns_3",
        "subjectId": "sub_4Nqz8dZk2Y6vWx3uRtCc",
        "purposeIds": ["pur_m", "pur_a"],
        "givenAt": "2024-06-01T10:00:00.000Z",
        "updatedAt": "2024-07-01T10:00:00.000Z",
        "status": "withdrawn",
        "isActive": False,
    },
    {"id": "cns_4", "subjectId": "sub_4Nqz8dZk2Y6vWx3uRtDd", "purposeIds": [], "givenAt": "2024-06-01T11:00:00.000Z"},
]
C15T_MAPPING = "purposes: {pur_m: marketing, marketing: marketing, pur_a: analytics}\npolicyVersion: '1.0'"


def plan_of(form: Format, mapping: str = "policyVersion: '1.0'", **changes: Any) -> Plan:
    options = {"policy_version": None, "time_zone": None, "visitor_key": KEY, "now_ms": NOW_MS, **changes}
    return make_plan(
        read_mapping(mapping.encode()),
        POLICY,
        format_name=form.name,
        words=form.words,
        never_asked=form.never_asked,
        **options,
    )


def read(form: Format, data: str | bytes, mapping: str = "policyVersion: '1.0'", **changes: Any) -> list[Outcome]:
    """What the rows of a file become. Names that are mapped nowhere are `refused`, as `unmapped-purpose`."""
    with tempfile.TemporaryFile() as file:
        file.write(data.encode() if isinstance(data, str) else data)
        encoding = changes.pop("encoding", None)
        return list(outcomes(Export(file, form, encoding, None), plan_of(form, mapping, **changes), Counter()))


def events(found: list[Outcome]) -> list[EventInput]:
    return [outcome.act.event for outcome in found if outcome.act is not None]


def told(found: list[Outcome]) -> list[str]:
    """Each row's fate in a word."""
    return [
        "event" if outcome.act else outcome.left_out or (outcome.refused.kind if outcome.refused else "?")
        for outcome in found
    ]


def wire(event: EventInput) -> dict[str, Any]:
    """An event as it is sent, without its evidence and its id."""
    sent: dict[str, Any] = json.loads(msgspec.json.encode(event))
    return {name: value for name, value in sent.items() if name not in ("id", "original", "action")}


def utf16(text: str) -> bytes:
    """As a spreadsheet saves "Unicode text"."""
    return text.encode("utf-16")


def packed(data: bytes) -> bytes:
    import gzip

    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb") as file:
        file.write(data)
    return buffer.getvalue()
