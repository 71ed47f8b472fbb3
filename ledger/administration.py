"""Recording administrative acts in the administrative log of a site: who did what, under which instruction.

The act comes first, and then what it is about: an act that cannot be recorded stops it. An act is appended like any
event, durably, before `record` returns. What an act may hold is core/admin_act; reading and matching are elsewhere.
"""

from __future__ import annotations

import getpass
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from hashlib import sha256
from typing import NamedTuple

import asyncpg
import msgspec

from ledger.config import Settings
from ledger.core import forms
from ledger.core.admin_act import (
    ADMIN_TYPE,
    AUTHORISING,
    ActName,
    ActWord,
    AdminAct,
    Flag,
    Role,
    check_details,
    decode_act,
    encode_act,
)
from ledger.core.encoding import decode_base64, encode_time, encode_uuid
from ledger.core.entry import commit_of
from ledger.core.errors import ConfigInvalid, Erased, Malformed
from ledger.core.event import MAX_PAYLOAD_BYTES
from ledger.messages import Receipt
from ledger.recording import sealed_draft
from ledger.replies import receipt_of
from ledger.secrets import new_event_id
from ledger.sequencer import Sequencer
from ledger.site import Site, SiteRegistry
from ledger.store.append import EventDraft
from ledger.store.reads import Reads

_NO_DETAILS: Mapping[str, str] = {}


class Act(NamedTuple):
    """What is to be recorded. `details` as core/admin_act.DETAILS allows them; `address`: the caller's IP, if any;
    `flagged`: why the instruction is believed unlawful."""

    act: ActWord
    actor: str
    role: Role
    instruction: str | None = None
    details: Mapping[str, str] = _NO_DETAILS
    address: str | None = None
    flagged: Flag | None = None


class Who(NamedTuple):
    """Who acts, and on whose word: what every act of one call or command has in common."""

    actor: str
    role: Role
    instruction: str | None = None
    address: str | None = None
    flagged: Flag | None = None

    def act(self, act: ActWord, details: Mapping[str, str] = _NO_DETAILS) -> Act:
        return Act(act, self.actor, self.role, self.instruction, details, self.address, self.flagged)


Acting = Callable[[ActWord, Mapping[str, str]], Awaitable[object]]
"""Records an act by whoever stands behind a call. It is awaited before what the act tells of is done."""


class Administration:
    """Writes the administrative logs of all sites. `wall_ms` is this process's clock."""

    def __init__(
        self, sites: SiteRegistry, reads: Reads, wall_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000
    ) -> None:
        self._sites = sites
        self._reads = reads
        self._wall_ms = wall_ms

    def acting(self, site: str, who: Who) -> Acting:
        """Records acts of `who` about `site`."""

        async def record(act: ActWord, details: Mapping[str, str]) -> Receipt:
            return await self.record(site, who.act(act, details))

        return record

    async def record(self, site: str, act: Act, *, act_id: str | None = None) -> Receipt:
        """Append an act to the administrative log of `site` (the site's own name).

        `act_id` (a UUID) makes it the same act, however often it is recorded: the receipt is the first one's. Raises
        `NotFound`, `ConfigInvalid` (what an act may not hold), `Erased` (a known act that is erased by now) and
        `Unavailable`: then do not go on.
        """
        check_details(act.act, act.details)
        log = await self._sites.admin_log(site)
        if log.sequencer is None:
            raise self._sites.hindrance(log)
        now_ms = self._wall_ms()
        stored = _act_of(log.site, act, act_id or new_event_id(now_ms), now_ms)
        draft = _draft(log, log.sequencer, stored)
        appended = await log.sequencer.submit(draft)
        if appended.entry is not None:
            return receipt_of(log.site, stored.id, appended.seq, appended.entry, draft.salt, draft.payload)
        row = await self._reads.receipt_at(log.site_id, appended.seq)
        if row.sealed is None:
            raise Erased("This act was recorded before, and is erased by now.")
        salt, payload = log.vault.open_opening(commit_of(row.entry), row.sealed)
        return receipt_of(log.site, stored.id, row.seq, row.entry, salt, payload)


def _act_of(site: str, act: Act, act_id: str, now_ms: int) -> AdminAct:
    """As it is stored; `ConfigInvalid` for a member that has not its form, and for a sentence in what is never erased:
    nobody could take out of it whom it names."""
    told = act.role != "ledger" and act.instruction
    if told and act.act in AUTHORISING and not forms.REFERENCE.fits(told):
        raise ConfigInvalid(f"this act is never erased, so its instruction is no text but {forms.REFERENCE.expected}")
    if not all(map(forms.is_plain, (act.actor, act.instruction or "", *act.details.values()))):
        raise ConfigInvalid("this act cannot be recorded: it holds a control or format character, which may deceive")
    stored = AdminAct(
        id=act_id,
        site=site,
        act=act.act,
        actor=act.actor,
        role=act.role,
        occurred_at=encode_time(now_ms),
        type=ADMIN_TYPE,
        instruction=act.instruction or None,
        details=dict(act.details),
        address=None if act.act in AUTHORISING else act.address,
        flagged=act.flagged,
    )
    try:
        decode_act(encode_act(stored))
    except Malformed as error:
        raise ConfigInvalid(f"this act cannot be recorded: {error}") from error
    return stored


def _draft(log: Site, sequencer: Sequencer, act: AdminAct) -> EventDraft:
    """Filed under its actor; what it says, its time apart, tells a repetition from another act."""
    payload = encode_act(act)
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise ConfigInvalid(f"an act has at most {MAX_PAYLOAD_BYTES} bytes")
    content = log.hasher.content(encode_act(msgspec.structs.replace(act, occurred_at=encode_time(0))))
    return sealed_draft(log, sequencer, act.id, payload, log.hasher.visitor(act.actor), content)


def named(receipt: Receipt) -> str:
    """How the record of an erasure names the act that was recorded: its instruction."""
    log, _, seq = receipt.position.rpartition(":")
    return str(ActName(log, int(seq), decode_base64(receipt.leaf_hash)))


def act_id_of(log_id: str, name: str) -> str:
    """An id (UUID v8) for what is done once in a log's life, or once by this name: the same again whoever does it."""
    return encode_uuid(sha256(f"consent-ledger act {log_id} {name}".encode()).digest()[:16], 8)


@asynccontextmanager
async def open_administration(settings: Settings, pool: asyncpg.Pool) -> AsyncIterator[Administration]:
    """For commands: over the command's own pool; leaving it answers every waiter."""
    reads = Reads(pool)
    sites = SiteRegistry(reads, pool, settings)
    try:
        yield Administration(sites, reads)
    finally:
        await sites.stop()


def actor_here(name: str | None = None) -> str:
    """Who acts at the command line: `--as NAME`, else the user of the operating system."""
    if name is None:
        try:
            name = getpass.getuser()
        except (OSError, KeyError):  # no name for this uid, as in a container
            name = f"uid {os.getuid()}"
    if not forms.ACTOR.fits(name):
        raise ConfigInvalid(f"--as is {forms.ACTOR.expected}")
    return name
