"""Appending again what the stream holds and an older copy of Postgres, or a failover that lost commits, does not.

The whole tail is verified as an audit would (core/tail) before anything is written. Then it is read and verified again
while it is appended under the site's lock, byte for byte with its times, in batches that land whole or not at all; run
again after any interruption, it goes on behind the last one. Servers that refused go on by themselves, for the log is
again the one they saw. The first entry that does not verify ends it. So does a tombstone (an event that was erased
before it was published) whose erasure the stream does not bring: it would be neither opened nor erased. Where the
erasure took the message itself, the event's entry is in no stream: as kept elsewhere (`gone`) it stands in as a
tombstone, if the stream has the very erasure entry that it was kept with.

Rows that are looked up by keyed hashes get them from the payload. The hash that tells a retry from a conflict covers
what the client sent, and the payload lacks a little of that: a region that a browser sent (it is not believed), the
grants of an event of which only the denials were kept, and an account or its scope beside denials that are still the
device's. A retry of such an event is a 409 afterwards and not its receipt; nothing is recorded twice. Of a tombstone
nobody knows the id any more: sent again, it is a new event.

Memory grows with the tail: about 130 bytes an entry, to see that nothing comes twice and what the tree becomes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple, cast

import asyncpg

from ledger.bus import Bus
from ledger.config import RECOVER_WINDOW_ENTRIES
from ledger.core import stream
from ledger.core.admin_act import is_admin_log
from ledger.core.encoding import encode_base64
from ledger.core.entry import Kind, commit_of, decode, decode_seqs
from ledger.core.errors import AuditFault, DocumentInvalid, NotFound, Unavailable
from ledger.core.event import DECIDING, LINKING, Event, EventInput, InputType, decode_event, encode_content
from ledger.core.merkle import HASH_BYTES, leaf_hash
from ledger.core.notice import media_type_of
from ledger.core.sealing import Master
from ledger.core.tail import Gone, Ledger, Tail, TailEntry, TailMessage
from ledger.progress import Progress
from ledger.recover.outliving import outlive
from ledger.recover.signed import Signed, contradiction, key_entries, read_signed
from ledger.secrets import SiteHasher
from ledger.store.clock import now_ms
from ledger.store.errors import DIFFERENT_LOG, sqlstate
from ledger.store.pool import connect_as_owner
from ledger.store.sites import SiteRow
from ledger.vault import Vault, read_vault

_LAST = "select entry from ledger.entry where site_id = $1 order by seq desc limit 1"
_ENTRY = "select entry from ledger.entry where site_id = $1 and seq = $2"
_VERSIONS = "select version, seq from ledger.policy where site_id = $1"
_DOCUMENTS = "select hash from ledger.document"
_KNOWN = "select key from ledger.known where site_id = $1 and key = any ($2) and seq < $3"
_LIVING = """
select e.seq from ledger.entry e
 where e.site_id = $1 and e.seq = any ($2) and ledger.entry_kind(e.entry) = 1
   and not exists (select 1 from ledger.erased r where r.site_id = $1 and r.seq = e.seq and r.by_seq < $3)
"""
_PUT_DOCUMENT = "select ledger.put_document($1, $2)"
_RECOVER = "select ledger.recover_entries($1, $2, $3, $4, $5, $6, $7, $8, $9)"


class Survey(NamedTuple):
    """What the stream holds beyond the ledger: entries `first` to `end` - 1 verify and can be appended again.

    `last` is the stream's last seq; `refused` says why the entries from `end` on cannot be taken. `erased` maps events
    that an erasure of the tail names to that erasure. `leaves`: the entries' leaf hashes, joined.
    """

    first: int
    end: int
    last: int
    erased: dict[int, int]
    refused: AuditFault | None
    leaves: bytes


class _Row(NamedTuple):
    """An entry as `ledger.recover_entries` takes it."""

    entry: bytes
    key: bytes | None
    sealed: bytes | None
    visitor: bytes | None
    content: bytes | None
    actor: bytes | None = None


class Recovery:
    """One site's ledger and its stream. `connect` makes the connection; `documents` are bodies that neither holds, and
    `gone` what is left of events that were erased behind the ledger's end, by seq."""

    def __init__(
        self,
        connection: asyncpg.Connection,
        bus: Bus,
        site: SiteRow,
        masters: Sequence[Master],
        documents: Sequence[bytes] = (),
        gone: Mapping[int, Sequence[Gone]] | None = None,
    ) -> None:
        self._connection = connection
        self._bus = bus
        self._site = site
        self._names = stream.names(site.site)
        self._masters = masters
        self._documents = documents
        self._gone = gone or {}
        self._published: dict[bytes, bool] = {}
        self._stood_in: set[int] = set()

    async def survey(self, progress: Progress) -> Survey:
        """Verify the whole tail. Nothing is written. `NotFound` where there is no stream."""
        info = await self._bus.stream_info(self._names.stream, self._names.tombstones)
        if info is None:
            raise NotFound(f"NATS has no stream of {self._site.site}: there is nothing to recover from")
        tail, vault = await self._begin()
        end = tail.first
        tombstones: list[int] = []
        leaves = bytearray()
        refused: AuditFault | None = None
        try:
            async for entries in self._verified(tail, SiteHasher(vault.hasher_key), info.state.last_seq, progress):
                end = entries[-1].seq + 1
                leaves += b"".join(leaf_hash(each.entry) for each in entries)
                tombstones += [each.seq for each in entries if each.is_tombstone]
        except AuditFault as fault:
            refused = fault
            if fault.seq in self._stood_in:
                detail = f"{fault.detail}. Its entry is that in `erasures`, for the stream has none"
                refused = AuditFault(fault.rule, detail, fault.seq)
        for seq in reversed(tombstones):
            if seq < end <= tail.erased.get(seq, end):
                detail = f"it was erased, and no entry from {seq + 1} to {end - 1} says by which erasure"
                refused = AuditFault(12, detail if refused is None else f"{detail} (then: {refused})", seq)
                end = seq
        found = bytes(leaves[: (end - tail.first) * HASH_BYTES])
        return Survey(tail.first, end, info.state.last_seq, tail.erased, refused, found)

    async def append(self, survey: Survey, progress: Progress) -> None:
        """Append again what the survey found. `AuditFault` if the stream is another one by now."""
        tail, vault = await self._begin()
        if tail.first != survey.first:
            raise _changed()
        tip = tail.tip
        for document in self._documents:
            await self._connection.execute(_PUT_DOCUMENT, _media_type(document), document)
        async for entries in self._verified(tail, SiteHasher(vault.hasher_key), survey.end - 1, progress):
            rows = [_row(each, survey.erased.get(each.seq, survey.end) < survey.end, vault) for each in entries]
            async with self._connection.transaction():
                for each in entries:
                    if each.document is not None:
                        await self._connection.execute(_PUT_DOCUMENT, "application/json", each.document)
                if not is_admin_log(self._site.site):
                    await outlive(self._connection, self._site.site_id, vault, entries)
                await self._recover(entries[0].seq, tip, rows)
            tip = leaf_hash(entries[-1].entry)

    async def is_copy(self) -> bool:
        """Whether the ledger has all that the stream holds, if there is one: its last message is an entry of ours."""
        info = await self._bus.stream_info(self._names.stream, self._names.tombstones)
        if info is None:
            return True
        if info.state.last_seq > decode(await self.last_entry()).seq:
            return False
        last = await self._bus.last_message(self._names.stream, self._names.subjects)
        if last is None:
            return True
        entry: bytes | None = await self._connection.fetchval(_ENTRY, self._site.site_id, last.seq)
        return entry is not None and stream.published_entry(last.header("ce-entry")) == entry

    async def last_entry(self) -> bytes:
        entry: bytes | None = await self._connection.fetchval(_LAST, self._site.site_id)
        if entry is None:
            raise NotFound(f"the log of {self._site.site} has no genesis entry, and no stream holds one")
        return entry

    async def signed(self, anchor: Path) -> list[Signed]:
        """What is known to have been signed of this log, the greatest first; `anchor`: the file of this machine."""
        return await read_signed(self._connection, self._bus, self._site, anchor)

    async def contradiction(self, signed: list[Signed], survey: Survey | None = None) -> AuditFault | None:
        """Whether the ledger, with what the survey found behind it, is another log than the one that was signed."""
        return await contradiction(self._connection, self._site, signed, b"" if survey is None else survey.leaves)

    async def discard_stream(self) -> None:
        """Delete the stream; the relay builds it again from the ledger."""
        await self._bus.delete_stream(self._names.stream)

    async def _begin(self) -> tuple[Tail, Vault]:
        """A reading of the tail from where the ledger ends."""
        site_id = self._site.site_id
        last = await self.last_entry()
        stored = [row["hash"] for row in await self._connection.fetch(_DOCUMENTS)]
        tail = Tail(
            Ledger(
                origin=self._site.origin,
                last=last,
                keys=await key_entries(self._connection, site_id),
                versions=dict(await self._connection.fetch(_VERSIONS, site_id)),
                documents=frozenset([*stored, *(sha256(document).digest() for document in self._documents)]),
                now_ms=await now_ms(self._connection),
            )
        )
        return tail, await read_vault(self._connection, site_id, self._masters)

    async def _verified(
        self, tail: Tail, hasher: SiteHasher, upto: int, progress: Progress
    ) -> AsyncIterator[list[TailEntry]]:
        """The entries up to a seq that verify, in windows; then, if there are more, the `AuditFault` of the next."""
        seen: set[bytes] = set()
        while tail.size <= upto:
            first = tail.size
            progress(first - tail.first, upto + 1 - tail.first)
            messages = await self._messages(range(first, min(first + RECOVER_WINDOW_ENTRIES, upto + 1)))
            entries, fault = tail.take(messages)
            stored = await self._judge_by_tables(entries, tail.first, hasher, seen)
            if stored is not None:
                at, fault = stored
                entries = entries[:at]
            if entries:
                yield entries
            if fault is not None:
                raise fault

    async def _messages(self, seqs: Sequence[int]) -> list[TailMessage | None]:
        found = await asyncio.gather(*(self._bus.message(self._names.stream, seq) for seq in seqs))
        return [
            await self._stand_in(seq)
            if each is None
            else TailMessage(each.header("ce-entry"), each.header("ce-salt"), each.data)
            for seq, each in zip(seqs, found, strict=True)
        ]

    async def _stand_in(self, seq: int) -> TailMessage | None:
        """As if it had been erased before it was published, where an erasure took it that the stream holds."""
        for gone in self._gone.get(seq, ()):
            if gone.by not in self._published:
                message = await self._bus.message(self._names.stream, decode(gone.by).seq)
                entry = None if message is None else stream.published_entry(message.header("ce-entry"))
                self._published[gone.by] = entry == gone.by
            if self._published[gone.by]:
                self._stood_in.add(seq)
                return TailMessage(encode_base64(gone.entry), None, b"")
        return None

    async def _judge_by_tables(
        self, entries: Sequence[TailEntry], first: int, hasher: SiteHasher, seen: set[bytes]
    ) -> tuple[int, AuditFault] | None:
        """9 and 11, where the tables of the ledger have to be asked: the first fault, and its index.

        `first` is where the tail begins, `seen` are the keys of its entries so far.
        """
        keys = {each.seq: _key(each, hasher) for each in entries}
        asked = [key for key in keys.values() if key is not None]
        rows = await self._connection.fetch(_KNOWN, self._site.site_id, asked, first)
        known: set[bytes] = {row["key"] for row in rows}
        for at, each in enumerate(entries):
            key = keys[each.seq]
            if key is not None and (key in known or key in seen):
                return at, AuditFault(9, "it is in the log already, by its id or its core", each.seq)
            if key is not None:
                seen.add(key)
            if each.kind == Kind.ERASURE:
                below = [seq for seq in decode_seqs(decode(each.entry).public) if seq < first]
                rows = await self._connection.fetch(_LIVING, self._site.site_id, below, first)
                living = {row["seq"] for row in rows}
                for seq in below:
                    if seq not in living:
                        detail = f"it names entry {seq}, which is no event, or was erased before"
                        return at, AuditFault(11, detail, each.seq)
        return None

    async def _recover(self, first: int, tip: bytes, rows: Sequence[_Row]) -> None:
        columns = [list(column) for column in zip(*rows, strict=True)]
        try:
            await self._connection.execute(_RECOVER, self._site.site_id, first, tip, *columns)
        except asyncpg.PostgresError as error:
            if sqlstate(error) == DIFFERENT_LOG:
                raise _changed() from error
            raise


def _media_type(document: bytes) -> str:
    """As it was uploaded; a site document is none of what is uploaded by itself."""
    try:
        return media_type_of(document)
    except DocumentInvalid:
        return "application/json"


def _changed() -> Unavailable:
    return Unavailable(
        "log-changed", "The log was appended to meanwhile: stop every server that writes, and try again."
    )


def _key(entry: TailEntry, hasher: SiteHasher) -> bytes | None:
    """By which `ledger.known` has it; None for a tombstone."""
    if entry.kind != Kind.EVENT:
        return entry.core
    return None if entry.payload is None else hasher.event_id(decode_event(entry.payload).id)


def _row(entry: TailEntry, erased: bool, vault: Vault) -> _Row:
    """What an erasure further on will take away is not brought back, save that the event's id is taken."""
    if entry.payload is None or entry.salt is None:
        return _Row(entry.entry, None, None, None, None)
    commit = commit_of(entry.entry)
    if entry.kind != Kind.EVENT:
        return _Row(entry.entry, None, vault.seal_record(commit, entry.salt, entry.payload), None, None)
    event, hasher = decode_event(entry.payload), SiteHasher(vault.hasher_key)
    key = hasher.event_id(event.id)
    if erased:
        return _Row(entry.entry, key, None, None, None)
    content = hasher.content(encode_content(_client_input(event)))
    sealed = vault.seal_opening(commit, entry.salt, entry.payload)
    return _Row(entry.entry, key, sealed, hasher.subject(event), content, hasher.actor(event))


def _client_input(event: Event) -> EventInput:
    """What the client sent, as far as the stored event tells (see the module)."""
    return EventInput(
        type=cast(InputType, event.type),
        visitor=event.visitor,
        decisions=event.decisions,
        action=event.action,
        id=event.id,
        policy_version=event.policy_version or event.cited_policy_version,
        language=event.language,
        component=event.component,
        shown=event.shown or event.cited_shown,
        region=event.region if event.authentication == "secret" else None,  # else the server found it
        gpc=event.gpc,
        tc_string=event.tc_string,
        gpp_string=event.gpp_string,
        conditional=event.conditional,
        scope="account" if event.account is not None and event.type in DECIDING else "device",
        account=event.account if event.type in LINKING else None,
        original=event.original,
        occurred_at=event.occurred_at,
    )


async def connect(admin_url: str) -> asyncpg.Connection:
    """A connection of the ledger's owner, who alone may execute `ledger.recover_entries`."""
    return await connect_as_owner(admin_url, "consent-ledger recover")
