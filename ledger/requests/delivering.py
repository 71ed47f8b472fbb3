"""Of the worker: tells the controller of requests, answers those whose erasure is done, forgets those of long ago.

With a webhook every proven request is forwarded by itself: the step is taken first, and then the controller is told,
at least once, however long that takes; whoever is told twice knows it by the notice's `id`. The notice is signed with
the site's receipt key (a JWS with detached payload, RFC 7515 appendix F, in the header Consent-Ledger-Signature), and
says nothing of who asked. Without a webhook forwarding is an operator's step. One worker over all replicas is enough,
two do no harm.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter

import aiohttp
import asyncpg
import msgspec

from ledger import __version__, config
from ledger.administration import Administration
from ledger.appending import open_sites
from ledger.config import Settings
from ledger.core.ed25519 import SigningKey
from ledger.core.encoding import encode_time
from ledger.core.errors import InputRefused, LedgerError, SealBroken
from ledger.core.jws import sign
from ledger.erasing.orders import Orders
from ledger.keys.receipts import ReceiptKeys
from ledger.requests.messages import RequestNotice
from ledger.requests.register import Requests
from ledger.requests.telling import details_of
from ledger.site import Site, SiteRegistry
from ledger.store import requests as store
from ledger.store.errors import is_passing
from ledger.store.reads import Reads
from ledger.store.requests import FiguresRow, RequestRow

log = logging.getLogger(__name__)

SIGNATURE = "Consent-Ledger-Signature"
NOTICE_TYPE = "consent-ledger-request+json"


class RequestWorker:
    """Of all sites."""

    def __init__(self, settings: Settings, pool: asyncpg.Pool) -> None:
        self._settings = settings
        self._pool = pool
        self._url = settings.request_webhook
        self._failed = 0
        self._tell_again_at = 0.0
        self._forget_at = 0.0
        self._look_at = 0.0
        self._said: dict[str, str] = {}
        self.told: Counter[str] = Counter()
        """Requests of which the controller was told, by site."""
        self.failures = 0
        """Of attempts to tell it."""
        self.figures: dict[str, list[FiguresRow]] = {}
        """Of the open requests of each site, as they were looked at last."""

    async def run(self) -> None:
        """Until cancelled. A database, or a controller, that goes away is waited for."""
        reads = Reads(self._pool)
        keys = ReceiptKeys(self._settings, reads)
        limits = aiohttp.ClientTimeout(total=config.REQUEST_WEBHOOK_TIMEOUT_SECONDS)
        async with (
            open_sites(self._settings, reads) as sites,
            aiohttp.ClientSession(timeout=limits, trust_env=True) as session,
        ):
            administration = Administration(sites, reads)
            orders = Orders(reads, administration, self._settings.erasure_batch_seconds)
            requests = Requests(self._pool, administration, orders)
            while True:
                await self._work(sites, requests, keys, session)
                await asyncio.sleep(config.REQUEST_IDLE_SECONDS)

    async def _work(
        self, sites: SiteRegistry, requests: Requests, keys: ReceiptKeys, session: aiohttp.ClientSession
    ) -> None:
        """One round, of which nothing but the end of the process is to end us."""
        try:
            await self.round(sites, requests, keys, session)
        except Exception as error:
            if not is_passing(error):
                log.exception("the work on requests failed; it is tried again")

    async def round(
        self, sites: SiteRegistry, requests: Requests, keys: ReceiptKeys, session: aiohttp.ClientSession
    ) -> None:
        """What there is to do for every site now. What is wrong with one does not keep the others waiting."""
        await sites.load(max_age_seconds=config.SITE_REFRESH_SECONDS)
        forgetting = time.monotonic() >= self._forget_at
        if forgetting:
            self._forget_at = time.monotonic() + config.REQUEST_FORGET_SECONDS
        if time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + config.REQUEST_WATCH_SECONDS
            await self._look(sites)
        for site in sites.loaded():
            try:
                await self._answer_erased(site, requests)
                if forgetting:
                    await requests.forget_ended(site)
                if self._url and time.monotonic() >= self._tell_again_at:
                    await self._forward(site, requests)
                    await self._tell(site, sites, keys, session)
                self._said.pop(site.site, None)
            except LedgerError as error:
                self._say(site.site, f"requests of {site.site} wait: {error}")

    async def _look(self, sites: SiteRegistry) -> None:
        rows = await store.figures(self._pool)
        self.figures = {site.site: [row for row in rows if row.site_id == site.site_id] for site in sites.loaded()}

    def _say(self, site: str, why: str) -> None:
        if self._said.get(site) != why:
            self._said[site] = why
            log.warning("%s", why)

    async def _answer_erased(self, site: Site, requests: Requests) -> None:
        for row in await store.ordered(self._pool, site.site_id, config.REQUEST_BATCH_ROWS):
            await requests.settle_erasure(site, row)

    async def _forward(self, site: Site, requests: Requests) -> None:
        for row in await store.proven(self._pool, site.site_id, config.REQUEST_BATCH_ROWS):
            try:
                await requests.forward(site, row)
            except InputRefused as error:
                if error.kind != "request-changed":  # an operator was first
                    raise

    async def _tell(self, site: Site, sites: SiteRegistry, keys: ReceiptKeys, session: aiohttp.ClientSession) -> None:
        for row in await store.untold(self._pool, site.site_id, config.REQUEST_BATCH_ROWS):
            body = msgspec.json.encode(_notice(site, row))
            key = await keys.signing(site, sites.loaded())
            problem = await self._post(session, body, signature_of(body, key))
            if problem is None:
                await store.told(self._pool, site.site_id, row.id)
                self.told[site.site] += 1
                self._failed = 0
                continue
            if self._failed == 0:
                log.warning("the controller's webhook was not told of a request (%s); trying on", problem)
            self.failures += 1
            pauses = config.REQUEST_WEBHOOK_PAUSES_SECONDS
            self._tell_again_at = time.monotonic() + pauses[min(self._failed, len(pauses) - 1)]
            self._failed += 1
            return

    async def _post(self, session: aiohttp.ClientSession, body: bytes, signature: str) -> str | None:
        """None if the receiver has it, else what went wrong. The URL may hold a secret: it is never told."""
        headers = {
            "Content-Type": "application/json",
            "User-Agent": f"consent-ledger/{__version__}",
            SIGNATURE: signature,
        }
        try:
            async with session.post(self._url, data=body, headers=headers, allow_redirects=False) as response:
                return None if 200 <= response.status < 300 else f"status {response.status}"
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            return type(error).__name__


def signature_of(body: bytes, key: SigningKey) -> str:
    """The header's value: a JWS of the body by the key, without the body itself between its dots."""
    header, _, signature = sign(body, NOTICE_TYPE, key).decode("ascii").split(".")
    return f"{header}..{signature}"


def _notice(site: Site, row: RequestRow) -> RequestNotice:
    try:
        details = details_of(site, row)
    except SealBroken:
        details = None  # the controller is told all the same; who reads the request will see what is wrong
    return RequestNotice(
        id=f"{row.id}-forwarded",
        event="request.forwarded",
        site=site.site,
        request=row.id,
        kind=row.kind,
        received_at=encode_time(row.received_ms),
        due_at=encode_time(row.due_ms),
        evidence=row.evidence.hex(),
        contact=None if details is None else details.contact,
        region=None if details is None else details.region,
    )
