"""The receipt keys of this installation as one process knows them: which signs, and which are published.

A receipt key signs renderings for other systems, and has no other role: one that is also a key of a log, of a witness
or of another site is neither used nor published. The log knows nothing of receipt keys, and no audit relies on them.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Iterable

from ledger import config
from ledger.config import Settings
from ledger.core.ed25519 import SigningKey
from ledger.core.errors import ConfigInvalid, LedgerError, Malformed, Unavailable
from ledger.core.key_history import key_history
from ledger.core.quorum import parse_policy
from ledger.keys.files import receipt_keys
from ledger.site import Site
from ledger.store.reads import Reads

log = logging.getLogger(__name__)


class ReceiptKeys:
    """Read from their files again every few seconds, so that a new one signs, and a removed one goes, without a
    restart."""

    def __init__(self, settings: Settings, reads: Reads) -> None:
        self._settings = settings
        self._reads = reads
        self._keys: dict[str, list[SigningKey]] = {}
        self._read_at = float("-inf")
        self._reading = asyncio.Lock()
        self._of_logs: dict[int, tuple[int, frozenset[bytes]]] = {}
        self._told: set[str] = set()

    async def signing(self, site: Site, sites: Iterable[Site]) -> SigningKey:
        """The newest key of a site; `Unavailable` where none lies here. `sites`: all that are loaded."""
        keys = (await self._fresh(sites)).get(site.site)
        if not keys:
            raise Unavailable(
                "no-receipt-key",
                "This server holds no receipt key of the site, so it signs no Consent Receipts; the other formats are "
                f"there. `consent-ledger key new {site.site} receipt` makes one.",
                30,
            )
        return keys[0]

    async def of(self, site: Site, sites: Iterable[Site]) -> list[bytes]:
        """The public keys of one site, the newest first; none where none lies here."""
        return [key.public for key in (await self._fresh(sites)).get(site.site, [])]

    async def published(self, sites: Iterable[Site]) -> list[bytes]:
        """The public keys of every site, also those that no longer sign."""
        return [key.public for keys in (await self._fresh(sites)).values() for key in keys]

    async def _fresh(self, sites: Iterable[Site]) -> dict[str, list[SigningKey]]:
        async with self._reading:
            if time.monotonic() - self._read_at >= config.RECEIPT_KEYS_CACHE_SECONDS:
                self._keys = await self._read(sorted(sites, key=lambda site: site.site))
                self._read_at = time.monotonic()
            return self._keys

    async def _read(self, sites: list[Site]) -> dict[str, list[SigningKey]]:
        taken: set[bytes] = set()
        for site in sites:
            taken |= await self._log_keys(site)
        taken |= await asyncio.to_thread(self._witnesses)
        found: dict[str, list[SigningKey]] = {}
        for site in sites:
            here = await asyncio.to_thread(receipt_keys, self._settings, site.site)
            for problem in here.problems.values():
                self._tell(problem)
            found[site.site] = list(here.keys.values())
        times = Counter(public for keys in found.values() for public in {key.public for key in keys})
        for name, keys in found.items():
            for key in keys:
                if key.public in taken or times[key.public] > 1:
                    self._tell(f"a receipt key of {name} has another role besides, so it is not used: remove its file")
            found[name] = [key for key in keys if key.public not in taken and times[key.public] == 1]
        return found

    async def _log_keys(self, site: Site) -> frozenset[bytes]:
        """Every key that the site's log ever knew, of any role."""
        known = self._of_logs.get(site.site_id)
        if known is None or known[0] != site.keys_seq:
            try:
                genesis, *entries = await self._reads.key_entries(site.site_id)
                publics = frozenset(term.public for term in key_history(site.origin, genesis, entries).terms)
            except Unavailable:
                raise
            except (LedgerError, ValueError) as error:
                raise Unavailable("internal", f"the key entries of {site.site} are not sound: {error}") from error
            known = self._of_logs[site.site_id] = site.keys_seq, publics
        return known[1]

    def _witnesses(self) -> frozenset[bytes]:
        if self._settings.witness_policy is None:
            return frozenset()
        try:
            policy = parse_policy(self._settings.witness_policy.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, Malformed, ConfigInvalid):
            return frozenset()  # the checkpointer tells of it
        return frozenset(witness.vkey.public for witness in policy.witnesses)

    def _tell(self, problem: str) -> None:
        if problem not in self._told:
            self._told.add(problem)
            log.warning("%s", problem)
