"""One person's page as one file: what records/person_page writes, in its frame, with the code that verifies receipts.

A page is made whole, so it is for people with so many events as a person reads; the JSON is for any number.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import msgspec

from ledger import config, person
from ledger.core.document import SiteDocument
from ledger.core.encoding import decode_time
from ledger.core.errors import InputRefused
from ledger.http import single_page
from ledger.person import Person
from ledger.person_messages import PersonEvent, PersonExport
from ledger.records import person_page

MEDIA_TYPE = "text/html; charset=utf-8"


def of(export: PersonExport, document: SiteDocument | None, language: str | None) -> bytes:
    """The file, in the language asked for, else in the visitor's."""
    written = person_page.write(export, document, language)
    return single_page.framed("record.html", written, script="person.js").encode()


async def pieces(found: Person, language: str | None) -> AsyncGenerator[bytes, None]:
    """The page, in one piece. `InputRefused` where there is more than a page may hold."""
    events: list[PersonEvent] = []
    async for page in person.events(found):
        events += page
        if len(events) > config.PERSON_PAGE_MAX_EVENTS:
            most = f"{config.PERSON_PAGE_MAX_EVENTS:,} events"
            detail = f"A page holds at most {most}, and there are more: take the JSON."
            raise InputRefused("too-many-events", detail)
    export = msgspec.structs.replace(await person.head(found), events=events)
    in_force = found.site.policies.in_force(decode_time(export.exported_at))
    yield await asyncio.to_thread(of, export, None if in_force is None else in_force.document, language)
