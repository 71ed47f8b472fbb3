"""What one visitor did, its choices for accounts among it, in pages; nobody else's for these accounts.

A choice for an account is filed under the account, together with those that other browsers made for it. Whose it is
stands in the payload alone, which is sealed; so the rows are opened here, and the others' left out.
"""

from __future__ import annotations

from ledger import config
from ledger.core.decide import Recorded
from ledger.site import Site, recorded
from ledger.store.reads import Reads


async def own_events(reads: Reads, site: Site, visitor: str, after: int, upto: int, limit: int) -> list[Recorded]:
    """At most `limit` events of a visitor after a seq, up to and including `upto`, in the log's order."""
    subject = site.hasher.visitor(visitor)
    found: list[Recorded] = []
    for each in (subject, *await _accounts(reads, site, subject, upto)):
        found += await _of_visitor(reads, site, each, visitor, after, upto, limit)
    return sorted(found, key=lambda one: one.seq)[:limit]


async def _accounts(reads: Reads, site: Site, subject: bytes, upto: int) -> list[bytes]:
    """Every account that the visitor was ever linked to, or made a choice for."""
    accounts: dict[str, None] = {}
    after, limit = -1, config.HISTORY_PAGE_MAX_EVENTS
    while page := (await reads.histories(site.site_id, [subject], [after], upto, limit))[0]:
        events = (recorded(site.vault, row).event for row in page)
        accounts |= dict.fromkeys(event.account for event in events if event.account is not None)
        after = page[-1].seq
        if len(page) < limit:
            break
    return [bytes.fromhex(account) for account in accounts]


async def _of_visitor(
    reads: Reads, site: Site, subject: bytes, visitor: str, after: int, upto: int, limit: int
) -> list[Recorded]:
    found: list[Recorded] = []
    while len(found) < limit:
        page = (await reads.histories(site.site_id, [subject], [after], upto, limit))[0]
        rows = (recorded(site.vault, row) for row in page)
        found += [one for one in rows if one.event.visitor == visitor]
        if len(page) < limit:
            break
        after = page[-1].seq
    return found
