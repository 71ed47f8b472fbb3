"""What there is to think over in policies: in force and next to come, against the cookies that were seen, by region."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator

import asyncpg

from ledger import config
from ledger.config import Settings
from ledger.cookies import Cookies, Figures
from ledger.core.admin_act import is_admin_log
from ledger.core.document import SiteDocument
from ledger.core.document_advice import advise
from ledger.core.errors import ConfigInvalid
from ledger.core.policy import PolicyHistory
from ledger.doctor.finding import Finding, advice, bad, good
from ledger.region import built_at
from ledger.retention import store
from ledger.site import published
from ledger.store.reads import Reads


async def findings(pool: asyncpg.Pool, settings: Settings) -> AsyncIterator[Finding]:
    """Of every site that is not closed, and whether regions are found where some policy asks for them."""
    reads, cookies = Reads(pool), Cookies(pool)
    differ = False
    for site in await reads.sites():
        if is_admin_log(site.site) or await store.closing(pool, site.site_id) is not None:
            continue
        history = PolicyHistory(tuple(published(row) for row in await reads.policies(site.site_id)))
        now_ms = time.time_ns() // 1_000_000
        in_force = history.in_force(now_ms)
        coming = next((entry for entry in history.in_effect_order if entry.effect_ms > now_ms), None)
        if in_force is None:
            yield advice(f"{site.site} policy", "none is in force: every purpose is denied")
        for entry, state in ((in_force, "in force"), (coming, "next to come")):
            if entry is not None:
                for finding in _advice(site.site, entry.document, state):
                    yield finding
                differ = differ or _regions_matter(entry.document)
        for figures in await cookies.measure([(site.site_id, site.site, history)]):
            for finding in _cookies(figures):
                yield finding
    yield _regions(settings, differ)


def _advice(site: str, document: SiteDocument, state: str) -> Iterator[Finding]:
    what, found = f"{site} policy {document.version}", advise(document)
    if not found:
        yield good(what, f"{state}, nothing in it to think over")
    for path, text in found:
        yield advice(what, f"{state}: {path}: {text}")


def _cookies(figures: Figures) -> Iterator[Finding]:
    what = f"{figures.site} cookies"
    if figures.undeclared:
        number = "1 name" if figures.undeclared == 1 else f"{figures.undeclared} names"
        yield advice(
            what,
            f"{number} that no policy declares, seen in the last {config.COOKIES_RECENT_DAYS} days: "
            f"`consent-ledger cookies list {figures.site}` shows them; declare them, or see that they are gone",
        )
    overdue = figures.overdue_seconds
    if overdue:
        since = f"{overdue // 86_400} days" if overdue >= 2 * 86_400 else f"{overdue // 3600} hours"
        yield advice(
            what,
            f"their review is overdue by {since}: `consent-ledger cookies list {figures.site}`, then "
            f"`consent-ledger cookies review {figures.site} --by ROLE`",
        )
    elif not figures.undeclared:
        yield good(what, "all declared" + ("" if overdue is None else ", and no review is overdue"))


def _regions_matter(document: SiteDocument) -> bool:
    """Whether a visitor's region makes a difference."""
    asked = (name for name in document.purposes if document.asks(name))
    return any(len(set(document.regimes_of(name).values())) > 1 for name in asked)


def _regions(settings: Settings, differ: bool) -> Finding:
    if settings.geoip_db is not None:
        try:
            age_seconds = time.time() - built_at(settings.geoip_db)
        except ConfigInvalid as error:
            return bad("regions", f"LEDGER_GEOIP_DB={settings.geoip_db}: {error}")
        days = f"{age_seconds / 86_400:.0f} days old"
        if age_seconds > config.REGION_DATABASE_OLD_SECONDS:
            return advice("regions", f"the location file is {days}: replace it, servers follow")
        return good("regions", f"found in a location file that is {days}")
    if settings.region_header:
        return good("regions", f"told by trusted proxies in {settings.region_header}")
    if differ:
        return advice(
            "regions",
            "nobody's is known, so that the strictest regime holds for whoever posts with a publishable key: set "
            "LEDGER_GEOIP_DB, or LEDGER_REGION_HEADER with LEDGER_TRUSTED_PROXIES",
        )
    return good("regions", "not looked for, and no policy asks for them")
