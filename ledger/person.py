"""Everything that is held of one visitor, as a JSON document that can be verified offline: written as it is read.

Who may have it is the caller's to find. Events are read by the page, each page with receipts and proofs, and nothing is
put aside: what a reader does not take is not read either. Somebody who is erased meanwhile is not exported to the end.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import NamedTuple

import msgspec

from ledger import config
from ledger.core.encoding import decode_base64, encode_time
from ledger.messages import Consent, HistoryItem
from ledger.person_messages import PersonEvent, PersonExport
from ledger.published import Leaf
from ledger.replies import forgotten, stored_receipt
from ledger.service import ConsentQuestion, Service
from ledger.site import Site
from ledger.store.ask import ask

FORMAT = "consent-ledger/v1 person-export"

# Of few rows: the register and the orders of one site, of one person.
_REQUESTS = "select r.id from ledger.request r where r.site_id = $1 and r.subject = $2 order by r.received_at, r.id"
_RESTRICTIONS = """
select e.id from ledger.erasure e
 where e.site_id = $1 and e.subject = $2 and e.level = 'restrict' order by e.requested_ms, e.id
"""

_encode = msgspec.json.Encoder().encode


class Person(NamedTuple):
    """One visitor of one site, as of the moment at which the export began."""

    service: Service
    site: Site
    visitor: str
    consent: Consent


async def look_up(service: Service, site: Site, visitor: str) -> Person:
    """What is exported, before the first byte of it: `InputRefused` where there is nobody left, `Unavailable`."""
    person = Person(service, site, visitor, await service.consent(site, ConsentQuestion(visitor=visitor, explain=True)))
    await _living(person)
    return person


async def _living(person: Person) -> None:
    """Nothing is told of somebody who was erased, or is about to be."""
    subject = person.site.hasher.visitor(person.visitor)
    blocks = await person.service.reads.blocks(person.site.site_id, [subject])
    if any(block.state != "restricted" for block in blocks.values()):
        raise forgotten()


async def written(person: Person) -> AsyncGenerator[bytes, None]:
    """The document in pieces. `InputRefused` at any point of it: then it breaks off."""
    yield _encode(await head(person))[:-1] + b',"events":['
    between = b""
    async for page in events(person):
        yield between + b",".join(map(_encode, page))
        between = b","
    yield b"]}\n"


async def head(person: Person) -> PersonExport:
    """Everything but the events."""
    return PersonExport(
        format=FORMAT,
        site=person.site.site,
        visitor=person.visitor,
        exported_at=encode_time(time.time_ns() // 1_000_000),
        log_id=person.site.log_id.hex(),
        log_vkey=person.site.log_vkey,
        consent=person.consent,
        requests=[
            await person.service.requests.status(person.site, request, to_visitor=True)
            for request in await _ids(person, _REQUESTS)
        ],
        restrictions=[
            await person.service.erasures.status(person.site, order) for order in await _ids(person, _RESTRICTIONS)
        ],
    )


async def _ids(person: Person, query: str) -> list[str]:
    subject = person.site.hasher.visitor(person.visitor)
    return [str(row["id"]) for row in await ask(person.service.reads.pool, query, person.site.site_id, subject)]


async def events(person: Person) -> AsyncIterator[list[PersonEvent]]:
    """The visitor's own events, and what it chose for accounts, up to the export's position: page by page."""
    upto = int(person.consent.position.rpartition(":")[2])
    cursor: str | None = None
    while True:
        page = await person.service.history(person.site, person.visitor, cursor, config.PERSON_PAGE_EVENTS)
        found = [item for item in page.events if item.seq <= upto]
        await _living(person)
        if found:
            yield await _proven(person, found, last=page.next is None)
        if page.next is None or len(found) < len(page.events):
            return
        cursor = page.next


async def _proven(person: Person, items: Sequence[HistoryItem], *, last: bool) -> list[PersonEvent]:
    """The events with their receipts; with the last ones, which may be new, a moment is waited for the checkpoint."""
    service, site = person.service, person.site
    receipts = [stored_receipt(site, await service.reads.receipt_at(site.site_id, item.seq)) for item in items]
    leaves = [Leaf(receipt.seq, decode_base64(receipt.leaf_hash)) for receipt in receipts]
    proven = await service.published.prove_all(site.site_id, leaves)
    if last and proven[-1].proof is None:
        await service.published.wait(site.site_id, leaves[-1], config.PERSON_PROOF_WAIT_SECONDS)
        proven = await service.published.prove_all(site.site_id, leaves)
    return [
        PersonEvent(
            item.seq,
            item.recorded_at,
            item.event,
            receipt if found.proof is None else msgspec.structs.replace(receipt, proof=found.proof),
        )
        for item, receipt, found in zip(items, receipts, proven, strict=True)
    ]
