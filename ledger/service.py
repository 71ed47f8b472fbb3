"""What the ledger does for its callers, free of HTTP: who asks, and one place for all that can be asked.

Each call parses nothing and formats nothing but its own messages. Recording, answering and publishing are modules of
their own.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from ledger import config
from ledger.answering import Answers, ConsentQuestion
from ledger.cookies import Cookies
from ledger.core.entry import Kind
from ledger.core.errors import IdConflict, InputRefused, NotFound, Unavailable
from ledger.core.policy import encode_document, parse_site_document
from ledger.messages import (
    PolicyPublished,
    Readiness,
)
from ledger.published import Published
from ledger.readiness import readiness
from ledger.recording import Entered, GrantsRefused, KeyClass, Principal, Recorder, Recording
from ledger.secrets import api_key_hash
from ledger.site import Site, SiteRegistry
from ledger.store.append import ControlDraft
from ledger.store.reads import Reads

log = logging.getLogger(__name__)

__all__ = ["ConsentQuestion", "Entered", "GrantsRefused", "Principal", "Recording", "Service"]


class Service(Recorder, Answers):
    """The ledger as one process sees it: recording and answering, and what goes with them."""

    def __init__(
        self, sites: SiteRegistry, reads: Reads, wall_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000
    ) -> None:
        Recorder.__init__(self, sites, reads, wall_ms)
        Answers.__init__(self, sites, reads)
        self.published = Published(reads.pool)
        self.cookies = Cookies(reads.pool, wall_ms)
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
                principal = Principal(row.site_id, key_class, frozenset(row.scopes))
            cached = (now + config.API_KEY_CACHE_SECONDS, principal)
            self._keys[digest] = cached
        principal = cached[1]
        return principal if principal is not None and principal.site_id == site.site_id else None

    # --- policies and documents ------------------------------------------------------------------------------------

    async def publish(self, site: Site, document: bytes) -> PolicyPublished:
        """Publish a version, once; the same version again with other content is an `IdConflict`."""
        if site.sequencer is None:
            raise self.sites.hindrance(site)
        parsed = parse_site_document(document)
        if parsed.site != site.site:
            raise InputRefused("wrong-site", f"The document is of {parsed.site}, not of {site.site}.", "/site")
        body = encode_document(parsed)
        version = parsed.policy.version
        await self.sites.refresh_policies(site)
        known = site.policies.get(version)
        if known is None:
            digest: bytes = await self.reads.put_document("application/json", body)
            public = digest + version.encode()
            signer = site.sequencer.signer
            draft = ControlDraft(
                Kind.POLICY, bytes(32), signer.key_hash, signer.sign(Kind.POLICY, bytes(32), public), public
            )
            try:
                await site.sequencer.submit_control(draft)
            except InputRefused:
                log.info("a version was published twice at once")  # the unique version decides; read it below
            await self.sites.refresh_policies(site)
            known = site.policies.get(version)
            if known is None:
                raise Unavailable("internal", "The version was not stored; try again.")
        if known.document != parsed:
            raise IdConflict(f"Version {version} is published with other content; give this one a new version.")
        return PolicyPublished(
            site=site.site,
            version=version,
            document=known.document_hash.hex(),
            seq=known.seq,
            position=f"{site.site}:{known.seq}",
        )

    async def document(self, digest: bytes) -> tuple[str, bytes]:
        """Media type and bytes of a published document; `NotFound` otherwise."""
        document = await self.reads.document(digest)
        if document is None:
            raise NotFound("No document of this hash was published.")
        return document

    async def policy(self, site: Site) -> tuple[str, bytes]:
        """Hash (hex) and bytes of the policy document in force now; `NotFound` before the first."""
        in_force = site.policies.in_force(self._wall_ms())
        if in_force is None:
            raise NotFound("The site has no policy in force.")
        return in_force.document_hash.hex(), encode_document(in_force.document)

    # --- health ----------------------------------------------------------------------------------------------------

    async def readiness(self) -> Readiness:
        """Whether reads and writes can be served now, and why not."""
        return await readiness(self.sites, self.reads)
