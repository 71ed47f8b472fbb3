"""The sites of this ledger as one process knows them: identity, policies, and the sequencer that appends.

Loaded when first asked for, refreshed when the database knows more. What a site's policies say is core/policy.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass

import asyncpg

from ledger import config
from ledger.checkpointer.records import signed_size
from ledger.core import ed25519, keys
from ledger.core.admin_act import admin_log_of, is_admin_log, site_of
from ledger.core.decide import EMPTY_STATE, Recorded, State, decode_state, fold
from ledger.core.entry import commit_of, decode, key_hash, ms_of
from ledger.core.errors import BadSignature, KeyRefused, LedgerError, Malformed, NotFound, Unavailable
from ledger.core.event import decode_event
from ledger.core.key_history import key_history
from ledger.core.merkle import leaf_hash
from ledger.core.policy import PolicyHistory, Published, decode_document
from ledger.keys.files import keys_here, site_directory
from ledger.secrets import SiteHasher
from ledger.sequencer import AppendEvents, Sequencer, Signer
from ledger.store.append import Head, append_events
from ledger.store.ask import ask
from ledger.store.reads import EventRow, Reads, VisitorRows
from ledger.store.sites import PolicyRow, SiteRow
from ledger.vault import Vault, Vaults

log = logging.getLogger(__name__)

_CLOSED = "select c.site_id from ledger.site_closing c"
_PROBE = b"consent-ledger signing probe"
_BEFORE_CHECKPOINT = "before its first checkpoint has its quorum"
_SIGNED_BEYOND = "the database holds an older copy of its log"


def published(row: PolicyRow) -> Published:
    """A stored policy entry with its document, as decisions want it."""
    return Published(row.seq, decode(row.entry).ms, row.document, decode_document(row.body))


def recorded(vault: Vault, row: EventRow) -> Recorded:
    """A stored event, opened, as decisions want it."""
    _, payload = vault.open_opening(commit_of(row.entry), row.sealed)
    event = decode_event(payload)
    device = None if event.account is None else SiteHasher(vault.hasher_key).device(event.visitor)
    return Recorded(row.seq, ms_of(row.entry), event, device)


def state_of(vault: Vault, rows: VisitorRows) -> State:
    """The state of a visitor or an account by all that the log holds: what is projected and what came after it."""
    state = EMPTY_STATE if rows.state is None else decode_state(rows.state)
    return fold(state, [recorded(vault, row) for row in rows.events]) if rows.events else state


@dataclass
class Site:
    """One site. `sequencer` is None where this process holds no active ingest key: it can read, not record."""

    site_id: int
    site: str
    origin: str
    log_id: bytes
    log_vkey: str  # the newest active one
    vault: Vault
    hasher: SiteHasher
    policies: PolicyHistory
    sequencer: Sequencer | None
    keys_seq: int = 0
    looked_for_version_at: float = float("-inf")
    next_look: asyncio.Task[None] | None = None
    closed: bool = False
    """Nothing is recorded for it any more, on its controller's instruction."""


class SiteRegistry:
    """Every site of the database, with one sequencer each."""

    def __init__(
        self,
        reads: Reads,
        writer_pool: asyncpg.Pool,
        settings: config.Settings,
        append: AppendEvents = append_events,
    ) -> None:
        self._reads = reads
        self._writer_pool = writer_pool
        self._settings = settings
        self._append = append
        self.vaults = Vaults(reads.pool, settings.masters)
        self._sites: dict[str, Site] = {}
        self._admin_logs: dict[str, Site] = {}
        self._keyless: dict[str, str] = {}  # site -> why nothing can be appended to it here
        self._unusable: dict[str, str] = {}  # site -> why it is not loaded
        self._loading = asyncio.Lock()
        self._looked_at = float("-inf")

    @property
    def settings(self) -> config.Settings:
        """Of the process."""
        return self._settings

    def loaded(self) -> list[Site]:
        """The sites of visitors; their administrative logs are none."""
        return list(self._sites.values())

    def _appended_to(self) -> list[Site]:
        return [*self._sites.values(), *self._admin_logs.values()]

    async def get(self, name: str) -> Site:
        """The site of that name; `NotFound` if the database has none, `Unavailable` if it cannot be asked or used."""
        site = self._sites.get(name)
        if site is None:
            await self.load(max_age_seconds=config.SITE_REFRESH_SECONDS)
            site = self._sites.get(name)
        if site is None and name in self._unusable:  # told that it is not there, a client might drop what it sends
            detail = "This server cannot use the site's data; an operator finds the reason in its log and by `doctor`."
            raise Unavailable("site-unusable", detail, 30)
        if site is None:
            raise NotFound(f"This ledger has no site {name[:80]!r}; `consent-ledger site list` shows those it has.")
        return site

    async def admin_log(self, site: str) -> Site:
        """The administrative log of a site, loaded when it is first asked for: most processes never write to one.

        `NotFound` where the site has none.
        """
        name = admin_log_of(site)
        async with self._loading:
            found = self._admin_logs.get(name)
            if found is None:
                row = next((row for row in await self._reads.sites() if row.site == name), None)
                found = None if row is None else await self._load(row)
                if found is None:
                    raise NotFound(f"{site[:80]} has no administrative log: `consent-ledger site add` founds it again.")
                self._admin_logs[name] = found
            elif found.sequencer is None:  # it may have its first checkpoint, or its key, by now
                found.sequencer = await self._sequencer(SiteRow(found.site_id, found.site, found.origin), found.log_id)
        return found

    async def log(self, name: str) -> Site:
        """The log of that name, a site's or an administrative one; `NotFound` if the database has none."""
        return await (self.admin_log(site_of(name)) if is_admin_log(name) else self.get(name))

    async def load(self, max_age_seconds: float = 0.0) -> None:
        """Load sites that are new, unless that was done a moment ago (an unknown name must not cost a query each)."""
        async with self._loading:
            if time.monotonic() - self._looked_at < max_age_seconds:
                return
            for row in await self._reads.sites():
                if row.site not in self._sites and not is_admin_log(row.site):
                    try:
                        site = await self._load(row)
                    except Unavailable:
                        raise
                    except LedgerError as error:  # one site that cannot be read must not take the others away
                        if self._unusable.get(row.site) != str(error):
                            self._unusable[row.site] = str(error)
                            log.error("the site %s cannot be loaded: %s", row.site, error)
                        continue
                    if site is not None:
                        self._unusable.pop(row.site, None)
                        self._sites[row.site] = site
            await self._follow_closings()
            self._looked_at = time.monotonic()

    async def refresh_policies(self, site: Site) -> None:
        """Read what was published since. Anybody may ask for that: nothing is read or compared a second time."""
        rows = await self._reads.policies(site.site_id, site.policies.last_seq)
        newer = tuple(published(row) for row in rows if row.seq > site.policies.last_seq)  # or a question overtook us
        if newer:
            site.policies = site.policies.followed_by(newer)

    async def look_for_version(self, site: Site) -> None:
        """Read the policies again because of an unknown version, which another process may just have published.

        Unknown versions must not cost a query each, so whoever asks before the next reading begins shares it.
        """
        if site.next_look is None:
            site.next_look = asyncio.create_task(self._look(site), name=f"look for a version {site.site}")
        await asyncio.shield(site.next_look)

    async def _look(self, site: Site) -> None:
        await asyncio.sleep(site.looked_for_version_at + config.VERSION_LOOKUP_SECONDS - time.monotonic())
        site.looked_for_version_at = time.monotonic()
        site.next_look = None
        await self.refresh_policies(site)

    async def follow(self) -> None:
        """Keep up with sites and policies that other processes add; runs until cancelled."""
        while True:
            await asyncio.sleep(config.SITE_REFRESH_SECONDS)
            try:
                for site in self._appended_to():
                    if site.sequencer is not None:
                        site.sequencer.probe()
                    else:  # an operator may have installed the key
                        row = SiteRow(site.site_id, site.site, site.origin)
                        site.sequencer = await self._sequencer(row, site.log_id)
                await self.vaults.refresh()
                await self.load()
                await self._follow_keys()
                await self._follow_closings()
                for site_id, seq in (await self._reads.policy_seqs()).items():
                    for site in self.loaded():
                        if site.site_id == site_id and site.policies.last_seq < seq:
                            await self.refresh_policies(site)
            except LedgerError as error:
                log.warning("sites could not be refreshed: %s", error)
            except Exception:
                log.exception("sites could not be refreshed; it is tried again")

    async def _follow_closings(self) -> None:
        closed = {row["site_id"] for row in await ask(self._reads.pool, _CLOSED)}
        for site in self.loaded():
            site.closed = site.site_id in closed

    async def _follow_keys(self) -> None:
        """Sign with the newest key from now on, where it lies here: then the retirement of the old one is no event."""
        newest, last_seqs = await self._reads.newest_signers(), await self._reads.key_seqs()
        for site in self._appended_to():
            last_seq = last_seqs.get(site.site_id, 0)
            if site.keys_seq != last_seq:
                site.log_vkey, site.keys_seq = await self._log_vkey(site.site_id, site.origin, site.log_vkey), last_seq
            sequencer = site.sequencer
            if sequencer is None or newest.get(site.site_id) in (None, sequencer.signer.key_hash):
                continue
            signer = await self._signer(SiteRow(site.site_id, site.site, site.origin), site.log_id)
            if signer is not None and signer.key.public != sequencer.signer.key.public:
                sequencer.signer = signer
                log.info("entries of %s are signed with the ingest key %s now", site.site, signer.key_hash[:4].hex())

    async def _log_vkey(self, site_id: int, origin: str, known: str) -> str:
        """The newest active log key, for people to see; `known` if the key entries are not as they should be."""
        try:
            genesis, *entries = await self._reads.key_entries(site_id)
            history = key_history(origin, genesis, entries)
        except (Malformed, BadSignature, KeyRefused, ValueError) as error:
            log.error("the key entries of %s are not sound: %s", origin, error)
            return known
        active = history.active("log")
        return str(history.vkey(active[-1])) if active else known

    async def stop(self) -> None:
        """Answer every waiter of every site."""
        await asyncio.gather(*(site.sequencer.stop() for site in self._appended_to() if site.sequencer is not None))

    async def _load(self, row: SiteRow) -> Site | None:
        genesis = await self._reads.genesis(row.site_id)
        if genesis is None:
            return None  # being founded at this moment
        log_id = leaf_hash(genesis)
        declared = keys.decode_genesis(decode(genesis).public, row.origin)
        vault = await self.vaults.of(row.site_id)
        policies = PolicyHistory(tuple(published(p) for p in await self._reads.policies(row.site_id)))
        keys_seq = (await self._reads.key_seqs()).get(row.site_id, 0)
        return Site(
            site_id=row.site_id,
            site=row.site,
            origin=row.origin,
            log_id=log_id,
            log_vkey=await self._log_vkey(row.site_id, row.origin, str(declared.log)),
            keys_seq=keys_seq,
            vault=vault,
            hasher=SiteHasher(vault.hasher_key),
            policies=policies,
            sequencer=await self._sequencer(row, log_id),
        )

    async def _sequencer(self, row: SiteRow, log_id: bytes) -> Sequencer | None:
        """The appending side, if this process holds an active ingest key, and the log's genesis is beyond dispute."""
        if not await self._reads.is_checkpointed(row.site_id):
            self._without_key(row.site, f"nothing is recorded for {row.site} {_BEFORE_CHECKPOINT}")
            return None
        signed = await asyncio.to_thread(signed_size, self._settings.anchors / f"{row.site}.anchor")
        head = await self._reads.head(row.site_id)
        if signed > head.size:
            # What another process remembers, one that has just started would not know: it would begin a second history.
            sizes = f"{signed} entries were signed, here are {head.size}"
            self._without_key(row.site, f"nothing is recorded for {row.site}, {_SIGNED_BEYOND}: {sizes}")
            return None
        lost = await self._reads.lost_entries(row.site_id)  # as known where the checkpointer runs
        if lost is not None:
            self._without_key(row.site, f"nothing is recorded for {row.site}, {_SIGNED_BEYOND}: {lost}")
            return None
        signer = await self._signer(row, log_id)
        if signer is None or head.entry is None:
            return None
        return Sequencer(
            row.site_id,
            self._writer_pool,
            signer,
            lambda: self._signer(row, log_id),
            Head(head.size, leaf_hash(head.entry)),
            append=self._append,
        )

    async def _signer(self, row: SiteRow, log_id: bytes) -> Signer | None:
        """Of the ingest keys that the log counts as active the newest that lies here."""
        here = keys_here(self._settings, row.site, "ingest")
        by_hash = {key_hash(key.public): key for key in here.keys.values()}
        active = await self._reads.active_signers(row.site_id)
        key = next((by_hash[digest] for digest in active if digest in by_hash), None)
        if key is None:
            where = site_directory(self._settings, row.site)
            reasons = "; ".join(here.problems.values()) or f"none of its active keys lies in {where}"
            self._without_key(row.site, f"nothing can be recorded for {row.site} without an ingest key: {reasons}")
            return None
        self._keyless.pop(row.site, None)
        ed25519.verify(key.public, _PROBE, key.sign(_PROBE))  # from here on its signatures are only made twice
        return Signer(log_id, key)

    def hindrance(self, site: Site) -> Unavailable:
        """Why nothing can be appended to a site that has no sequencer here."""
        if _BEFORE_CHECKPOINT in self._keyless.get(site.site, ""):
            return Unavailable("not-checkpointed", f"Nothing is recorded for this site {_BEFORE_CHECKPOINT}.", 5)
        if _SIGNED_BEYOND in self._keyless.get(site.site, ""):
            detail = "The database holds fewer entries than were signed: an operator has to settle it (`recover`)."
            return Unavailable("log-behind", detail, 30)
        return Unavailable("no-signer", "This server holds no ingest key of the site, so it cannot record.", 30)

    def _without_key(self, site: str, why: str) -> None:
        """It is looked for every few seconds, and told once."""
        if self._keyless.get(site) != why:
            self._keyless[site] = why
            log.warning("%s", why)
