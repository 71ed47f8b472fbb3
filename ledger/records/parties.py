"""The parties of a JSON-LD record: controller, recipients and authorities, each once, with how they are reached."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ledger.core.document import Authority, Controller, Recipient, Texts
from ledger.records import facts
from ledger.records.dossier import Dossier
from ledger.records.dpv import NOT_STATED, ROLES, TRANSFERS, places, texts_of
from ledger.records.facts import Answered


def entities(dossier: Dossier, where: str, found: Iterable[Answered]) -> list[dict[str, Any]]:
    """Everybody whom the record names. `where` is the record's own address, under which each has an IRI."""
    document = dossier.document
    if document is None:
        nobody = Controller(name=dossier.receipt.site)
        return [_controller(dossier, where, nobody)]
    told = [_controller(dossier, where, document.controller)]
    told += [_recipient(where, document.controller, one) for one in facts.recipients(found)]
    return told + [_authority(where, n, authority) for n, authority in enumerate(document.authorities)]


def _controller(dossier: Dossier, where: str, controller: Controller) -> dict[str, Any]:
    document = dossier.document
    points = [_contact(controller.email, controller.phone, None, None)]
    if document is not None:
        points += [_contact(one.email, one.phone, one.url, one.about) for one in document.contacts]
    entity: dict[str, Any] = {
        "@id": f"{where}#controller",
        "@type": ["dpv:DataController", "dpv:Organisation"],
        "dpv:hasName": controller.name,
        "dpv:hasIdentifier": f"BIN {controller.bin}" if controller.bin else dossier.receipt.site,
        "dct:identifier": f"{where}#controller",
        "schema:contactPoint": points,
        "schema:address": {
            "@type": "schema:PostalAddress",
            "schema:streetAddress": controller.address or NOT_STATED,
        },
        "dpv:hasContact": controller.email or (document.policy.url if document is not None else dossier.base_url),
    }
    if controller.country is not None:
        entity["dpv:hasLocation"] = places([controller.country])
        entity["schema:address"]["schema:addressCountry"] = controller.country
    return entity


def _recipient(where: str, controller: Controller, recipient: Recipient) -> dict[str, Any]:
    """A recipient's address is not part of a policy: it is reached through the controller."""
    reached = _contact(controller.email, controller.phone, None, None)
    reached["dct:description"] = "through the controller"
    entity: dict[str, Any] = {
        "@id": _recipient_id(where, recipient),
        "@type": ["dpv:Recipient", ROLES[recipient.role]],
        "dpv:hasName": recipient.name,
        "dpv:hasIdentifier": recipient.name,
        "schema:contactPoint": [reached],
        "schema:address": {"@type": "schema:PostalAddress", "schema:streetAddress": NOT_STATED},
    }
    if recipient.region is not None:
        entity["dpv:hasLocation"] = places([recipient.region])
    if recipient.transfer is not None:
        entity["cl:transferBasis"] = TRANSFERS[recipient.transfer]
    return entity


def _authority(where: str, number: int, authority: Authority) -> dict[str, Any]:
    entity: dict[str, Any] = {
        "@id": f"{where}#authority-{number}",
        "@type": ["dpv:Authority", "dpv:DataProtectionAuthority"],
        "dpv:hasName": texts_of(authority.name),
        "dpv:hasIdentifier": f"{where}#authority-{number}",
        "schema:contactPoint": [_contact(None, None, authority.url, None)],
        "schema:address": {"@type": "schema:PostalAddress", "schema:streetAddress": NOT_STATED},
    }
    if authority.regions:
        entity["dpv:hasJurisdiction"] = places(authority.regions)
    return entity


def _contact(email: str | None, phone: str | None, url: str | None, about: Texts | None) -> dict[str, Any]:
    members = {"schema:email": email, "schema:telephone": phone, "schema:url": url}
    point: dict[str, Any] = {"@type": "schema:ContactPoint", **{name: v for name, v in members.items() if v}}
    if about:
        point["schema:contactType"] = texts_of(about)
    if len(point) == 1:
        point["dct:description"] = NOT_STATED
    return point


def recipient_ids(where: str, answered: Answered) -> list[dict[str, str]]:
    """The guide wants at least one: where the policy names nobody, the controller itself."""
    named = facts.recipients([answered])
    return [{"@id": _recipient_id(where, one)} for one in named] or [{"@id": f"{where}#controller"}]


def _recipient_id(where: str, recipient: Recipient) -> str:
    slug = "".join(character if character.isascii() and character.isalnum() else "-" for character in recipient.name)
    return f"{where}#recipient-{slug}-{recipient.role}-{recipient.region or 'x'}"
