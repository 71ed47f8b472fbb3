"""The cookie inventory of each site as its owners see it: report names, compare them with the policy, record reviews.

What a name may be and what the comparison means is core/cookies; rows are store/cookies. No value, visitor or address
is ever here.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import asyncpg

from ledger import config
from ledger.administration import Acting
from ledger.core import forms
from ledger.core.cookies import Comparison, Declared, Index, Observed, compare, refuse_name, review_due
from ledger.core.encoding import encode_time
from ledger.core.errors import InputRefused, LedgerError, NotFound
from ledger.core.policy import PolicyHistory, Published
from ledger.messages import (
    CookieInventory,
    CookieReview,
    CookieReviewInput,
    CookiesKept,
    CookiesObserved,
    DeclaredCookie,
    UndeclaredCookie,
)
from ledger.site import Site
from ledger.store import cookies as store
from ledger.store.cookies import ReviewRow

log = logging.getLogger(__name__)


class Figures(NamedTuple):
    """Of one site: undeclared names seen of late, and for how long a review is overdue (None: none is asked for)."""

    site: str
    undeclared: int
    overdue_seconds: int | None


class Looked(NamedTuple):
    """An inventory as it is now. `in_force` is the policy that it is compared with."""

    in_force: Published
    comparison: Comparison
    last_review: ReviewRow | None
    now_ms: int


class Cookies:
    """The inventories of this ledger's sites."""

    def __init__(self, pool: asyncpg.Pool, wall_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000) -> None:
        self._pool = pool
        self._wall_ms = wall_ms
        self._noted: dict[tuple[int, str, str], float] = {}
        self._indices: dict[tuple[bytes, ...], Index] = {}
        self._figures: dict[str, Figures] = {}

    async def observe(self, site: Site, seen: CookiesObserved, max_names: int) -> CookiesKept:
        """Note names as seen today, under the names by which they may be kept. `InputRefused` keeps none of them."""
        for n, name in enumerate(seen.names):
            if (reason := refuse_name(name)) is not None:
                raise InputRefused("cookie-name-refused", reason, f"/names/{n}")
        index = self._index(site.policies)
        names = [index.kept_as(seen.storage, name) for name in seen.names]
        now = time.monotonic()
        new = [name for name in dict.fromkeys(names) if self._noted.get((site.site_id, seen.storage, name), 0.0) < now]
        dropped = await store.observe(self._pool, site.site_id, seen.storage, new, max_names) if new else 0
        if not dropped:
            if len(self._noted) + len(new) > config.COOKIES_SEEN_MAX:
                self._noted.clear()
            self._noted |= {(site.site_id, seen.storage, name): now + config.COOKIES_SEEN_SECONDS for name in new}
        return CookiesKept(site.site, seen.storage, names, dropped)

    def _index(self, policies: PolicyHistory) -> Index:
        """Of the policy in force and of those to come: what the next version declares is no surprise."""
        now_ms = self._wall_ms()
        in_force = policies.in_force(now_ms)
        coming = (entry for entry in policies.in_effect_order if entry.effect_ms > now_ms)
        entries = [entry for entry in (in_force, *coming) if entry is not None]
        key = tuple(entry.document_hash for entry in entries)
        index = self._indices.get(key)
        if index is None:
            if len(self._indices) >= config.ORIGIN_CACHE_MAX:
                self._indices.clear()
            index = self._indices[key] = Index(entry.document for entry in entries)
        return index

    async def look(self, site_id: int, policies: PolicyHistory) -> Looked:
        """The inventory now; `NotFound` before there is a policy in force."""
        now_ms = self._wall_ms()
        in_force = policies.in_force(now_ms)
        if in_force is None:
            raise NotFound("The site has no policy in force.")
        observed = await store.observed(self._pool, site_id)
        comparison = compare(in_force.document, observed, encode_time(in_force.effect_ms)[:10])
        return Looked(in_force, comparison, await store.last_review(self._pool, site_id), now_ms)

    async def inventory(self, site: Site) -> CookieInventory:
        """Declared against observed, and how the reviews stand."""
        looked = await self.look(site.site_id, site.policies)
        last = looked.last_review
        due = review_due(site.policies, None if last is None else last.reviewed_ms, looked.now_ms)
        version = looked.in_force.document.version
        return CookieInventory(
            site=site.site,
            policy_version=version,
            inventory=looked.comparison.digest(version).hex(),
            declared=[_declared(one) for one in looked.comparison.declared],
            undeclared=[_undeclared(row) for row in looked.comparison.undeclared],
            last_review=None if last is None else _review(site.site, last),
            review_every=None if due is None else str(due.every),
            due=None if due is None else encode_time(due.due_ms),
            overdue_seconds=0 if due is None else due.overdue_seconds,
        )

    async def review(
        self, site: Site, told: CookieReviewInput, acting: Acting | None = None
    ) -> tuple[CookieReview, bool]:
        """Record that somebody went through the inventory as it is now; whether that was recorded today already.

        `InputRefused` (`inventory-changed`) where another inventory was gone through.
        """
        if not forms.is_plain(told.by):
            raise InputRefused("invalid-cookies", f"by is {forms.REVIEWER.expected}.", "/by")
        looked = await self.look(site.site_id, site.policies)
        version = looked.in_force.document.version
        digest = looked.comparison.digest(version)
        if told.inventory not in (None, digest.hex()):
            raise InputRefused(
                "inventory-changed",
                "The inventory is another one by now: read it again, then review that.",
                "/inventory",
            )
        if acting is not None:
            await acting("cookies.reviewed", {"inventory": digest.hex(), "version": version, "label": told.by})
        numbers = len(looked.comparison.declared), len(looked.comparison.undeclared)
        row, replayed = await store.review(self._pool, site.site_id, told.by, version, digest, *numbers)
        return _review(site.site, row), replayed

    async def forget(self, site: Site, names: Sequence[str] | None, unseen_days: int = 0) -> int:
        """Forget these names, or, with None, those unseen for so many days; how many went. Reviews stay."""
        self._noted.clear()
        return await store.forget(self._pool, site.site_id, names, unseen_days)

    # --- figures ---------------------------------------------------------------------------------------------------

    async def measure(self, sites: Collection[tuple[int, str, PolicyHistory]]) -> list[Figures]:
        """The figures of these sites (id, name, policies), those without a policy left out."""
        figures = []
        for site_id, name, policies in sites:
            try:
                looked = await self.look(site_id, policies)
            except NotFound:
                continue
            last = looked.last_review
            due = review_due(policies, None if last is None else last.reviewed_ms, looked.now_ms)
            undeclared = len(recent(looked.comparison.undeclared, looked.now_ms))
            figures.append(Figures(name, undeclared, None if due is None else due.overdue_seconds))
        return figures

    async def watch(self, sites: Callable[[], Collection[Site]]) -> None:
        """Keep `figures` up to date for ever. Where the database does not answer they stay as they were."""
        while True:
            try:
                measured = await self.measure([(site.site_id, site.site, site.policies) for site in sites()])
                self._figures = {figures.site: figures for figures in measured}
            except LedgerError as error:
                log.warning("the cookie inventories could not be looked at: %s", error)
            except Exception:
                log.exception("the cookie inventories could not be looked at; it is tried again")
            await asyncio.sleep(config.COOKIES_WATCH_SECONDS)

    def figures(self) -> Collection[Figures]:
        """As they were measured last."""
        return self._figures.values()


def recent(undeclared: Sequence[Observed], now_ms: int) -> list[Observed]:
    """Those that were seen of late."""
    day = datetime.fromtimestamp(now_ms / 1000, UTC).date() - timedelta(days=config.COOKIES_RECENT_DAYS)
    return [row for row in undeclared if row.last_seen >= day.isoformat()]


def _declared(one: Declared) -> DeclaredCookie:
    cookie, seen = one.cookie, one.seen
    return DeclaredCookie(
        purpose=one.purpose,
        storage=cookie.storage,
        seen=seen is not None,
        name=cookie.name,
        pattern=cookie.pattern,
        description=cookie.description,
        first_seen=None if seen is None else seen.first_seen,
        last_seen=None if seen is None else seen.last_seen,
        days=0 if seen is None else seen.days,
    )


def _undeclared(row: Observed) -> UndeclaredCookie:
    # A Literal in the table's check too.
    return UndeclaredCookie(row.storage, row.name, row.first_seen, row.last_seen, row.days)  # type: ignore[arg-type]


def _review(site: str, row: ReviewRow) -> CookieReview:
    return CookieReview(
        site=site,
        n=row.n,
        by=row.reviewer,
        reviewed_at=encode_time(row.reviewed_ms),
        policy_version=row.version,
        inventory=row.inventory.hex(),
        declared=row.declared,
        undeclared=row.undeclared,
    )
