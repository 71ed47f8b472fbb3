"""What the ledger does for its callers, free of HTTP: who asks, and one place for all that can be asked.

Each call parses nothing and formats nothing but its own messages. Recording, answering and publishing are modules of
their own.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from ledger import config
from ledger.administration import Acting, Administration
from ledger.answering import Answers, ConsentQuestion
from ledger.consumers import Consumers
from ledger.cookies import Cookies
from ledger.downloads import Downloads
from ledger.erasing.orders import Orders
from ledger.messages import PolicyPublished, Readiness
from ledger.policies.publishing import Publisher
from ledger.published import Published
from ledger.readiness import readiness
from ledger.recording import Entered, GrantsRefused, KeyClass, Principal, Recorder, Recording
from ledger.requests.register import Requests
from ledger.requests.visitors import VisitorRequests
from ledger.secrets import api_key_hash, api_key_id
from ledger.site import Site, SiteRegistry
from ledger.store.reads import Reads

__all__ = ["ConsentQuestion", "Entered", "GrantsRefused", "Principal", "Recording", "Service"]


class Service(Recorder, Answers):
    """The ledger as one process sees it: recording and answering, and what goes with them."""

    def __init__(
        self, sites: SiteRegistry, reads: Reads, wall_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000
    ) -> None:
        Recorder.__init__(self, sites, reads, wall_ms)
        Answers.__init__(self, sites, reads)
        self.published = Published(reads.pool)
        self.publishing = Publisher(sites, reads, wall_ms)
        self.cookies = Cookies(reads.pool, wall_ms)
        self.consumers = Consumers(reads)
        self.downloads = Downloads(reads.pool)
        self.administration = Administration(sites, reads, wall_ms)
        self.erasures = Orders(reads, self.administration, sites.settings.erasure_batch_seconds)
        self.requests = Requests(reads.pool, self.administration, self.erasures, wall_ms)
        self.visitor_requests = VisitorRequests(self.requests, self.downloads)
        self._keys: dict[bytes, tuple[float, Principal | None]] = {}

    # --- who asks --------------------------------------------------------------------------------------------------

    async def site(self, name: str) -> Site:
        """The site of that name; `NotFound` if this ledger has none."""
        return await self.sites.get(name)

    async def authenticate(self, site: Site, bearer: str) -> Principal | None:
        """Whose key this is; None for an unknown or revoked key or one of another site. Cached for a few seconds."""
        digest = api_key_hash(bearer)
        cached = self._keys.get(digest)
        now = time.monotonic()
        if cached is None or cached[0] < now:
            if len(self._keys) >= config.API_KEY_CACHE_MAX_KEYS:
                self._keys.clear()
            row = await self.reads.api_key(digest)
            principal = None
            if row is not None:
                key_class: KeyClass = "secret" if row.key_class == "secret" else "publishable"
                principal = Principal(row.site_id, key_class, frozenset(row.scopes), _name(row.label, digest))
            cached = (now + config.API_KEY_CACHE_SECONDS, principal)
            self._keys[digest] = cached
        principal = cached[1]
        return principal if principal is not None and principal.site_id == site.site_id else None

    # --- policies --------------------------------------------------------------------------------------------------

    async def publish(self, site: Site, document: bytes, acting: Acting | None = None) -> PolicyPublished:
        """Publish a version of the site document, once; see `policies.publishing`."""
        return (await self.publishing.publish(site, document, acting)).answer

    async def document(self, digest: bytes) -> tuple[str, bytes]:
        """Media type and bytes of a published document; `NotFound` otherwise."""
        return await self.publishing.document(digest)

    # --- health ----------------------------------------------------------------------------------------------------

    async def readiness(self) -> Readiness:
        """Whether reads and writes can be served now, and why not."""
        return await readiness(self.sites, self.reads)


def _name(label: str, key_hash: bytes) -> str:
    """Two keys may have one label: the id tells them apart."""
    return f"{label} [{api_key_id(key_hash)}]".strip()
