"""One site's checkpoints: ask every place that knows the last one, judge what is new, decide, sign, write.

A round either signs, or finds nothing to sign, or raises `NotSigned`. The order of writing makes a crash after any of
them harmless, because a round trusts what it reads and nothing that it remembers:

    signed       nobody knows it: the next round signs the same, or more
    NATS         the next round finds the greater size there, checks it, and goes on from it; the others are behind
    memory       as above, one more place that knows
    anchor       as above
    database     the checkpoint is public; witnesses are asked in the next round
    witnesses    nothing is open

Two checkpointers cannot sign two histories: whoever swaps the record in NATS second loses, reads it, and finds another
root than its own; on one machine the memory lets in only one; on one database `put_checkpoint` compares and swaps.
"""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import asyncpg

from ledger import config
from ledger.bus import Bus, BusError
from ledger.checkpointer.cosigning import Cosigning
from ledger.checkpointer.follower import LogFollower, NotSigned, in_thread
from ledger.checkpointer.records import Anchor, Anchored, NatsRecord, RecordChanged, RecordUnreachable, Revised
from ledger.checkpointer.tiles import NewTiles
from ledger.config import Settings
from ledger.core import agreement
from ledger.core.agreement import Agrees, Ahead, Disagrees, Nothing, Refuse, Said, Unreachable
from ledger.core.ed25519 import SigningKey
from ledger.core.errors import ConfigInvalid, Malformed, NotFound, ProofInvalid, Unavailable
from ledger.core.keys import KeySet
from ledger.core.merkle import Frontier, check_consistency, leaf_hash
from ledger.core.note import Checkpoint, VerifierKey, parse_checkpoint, sign_checkpoint
from ledger.core.quorum import TrustPolicy
from ledger.core.stream import names, published_entry
from ledger.keys import files as key_files
from ledger.log_tree import LogTree
from ledger.store import checkpoints as store
from ledger.store import log as log_store
from ledger.store.sites import SiteRow
from ledger.vault import Vaults
from ledger.witness.client import WitnessClient

_ROOTS_KEPT = 32


class Looked(NamedTuple):
    """What the places said, and what is needed to write to them."""

    said: dict[str, Said]
    notes: dict[str, Checkpoint]
    kv: Revised | None
    anchored: Anchored | None
    moment: store.Moment


class Outcome(NamedTuple):
    """What a round left: the size that is signed, the log's, whether this round signed, and the places that could not
    be asked."""

    size: int
    log_size: int
    signed: bool
    alarms: tuple[str, ...]


class SiteCheckpointer:
    """One site. `bus` gives the connection to NATS, or raises `BusError`; None where NATS is not set up.

    `wrote` is called with the name of each place after it was written: tests end the process there.
    """

    def __init__(
        self,
        settings: Settings,
        pool: asyncpg.Pool,
        site: SiteRow,
        policy: TrustPolicy,
        clients: Sequence[WitnessClient] = (),
        bus: Callable[[], Bus] | None = None,
        wrote: Callable[[str], None] = lambda _: None,
        memory: Path | None = None,
    ) -> None:
        self.site = site
        self._settings = settings
        self._pool = pool
        self._bus = bus
        self._wrote = wrote
        self._tree = LogTree(pool, site.site_id)
        self._tiles = NewTiles(pool, site.site_id)
        memory = memory or settings.anchors / f"{site.site}.memory"
        self._follower = LogFollower(pool, Vaults(pool, settings.masters), site, memory, self._tiles.add)
        self._anchor = Anchor(settings.anchors / f"{site.site}.anchor")
        self._kv = NatsRecord(site.origin)
        self._stream = names(site.site)
        self.cosigning = Cosigning(pool, site, policy, clients, self._prove, settings.anchors / "evidence")
        self._roots: OrderedDict[int, bytes] = OrderedDict()  # of sizes that were followed here: they stay true
        self._asked_witnesses = False
        self._keys: tuple[tuple[VerifierKey, ...], list[tuple[VerifierKey, SigningKey]]] = ((), [])

    def close(self) -> None:
        self._follower.close()

    @property
    def log_size(self) -> int:
        """How far the log was judged."""
        return self._follower.log.size if self._follower.is_open else 0

    async def look_at_all(self) -> Looked:
        """As `look`, over the whole log, however much of it is not signed yet."""
        await self._follower.open()
        while True:
            looked = await self.look()
            if self.log_size >= looked.moment.size:
                return looked

    async def write_record(self, looked: Looked, place: str, checkpoint: Checkpoint) -> None:
        """Write one place's record, which is lost, by compare and swap."""
        note = checkpoint.encode()
        if place == agreement.NATS and self._bus is not None and looked.kv is not None:
            await self._kv.write(self._bus(), note, looked.kv.revision)
        elif place == agreement.ANCHOR:
            written = {name: said.size for name, said in looked.said.items() if isinstance(said, Agrees)}
            await in_thread(self._anchor.write, note, None, written)
        elif place == agreement.DATABASE:
            size, previous = checkpoint.size, looked.moment.written
            new = NewTiles(self._pool, self._site_id)
            tiles = await new.up_to(previous, size, checkpoint.root) if previous < size else []
            note, cosigned = self.cosigning.note(checkpoint)
            if not await store.put_checkpoint(self._pool, self._site_id, previous, size, note, cosigned, tiles):
                raise RecordChanged(f"the database says that a checkpoint of size {previous} was written: look again")

    async def round(self) -> Outcome:
        """`NotSigned` says what is wrong; `RecordChanged`, `BusError` and `Unavailable`: try again."""
        await self._follower.open()
        looked = await self.look()
        size = self._follower.log.size
        verdict = agreement.decide(looked.said, size)
        if isinstance(verdict, Refuse):
            raise NotSigned(verdict.reason, verdict.detail)
        await self._resume(looked, verdict.known)
        unfinished = [looked.said[name] for name in (agreement.ANCHOR, agreement.DATABASE)]
        first = verdict.known <= 1 and any(isinstance(said, Nothing) for said in unfinished)
        size = 1 if first else self._follower.log.size
        return Outcome(size, looked.moment.size, await self._sign(looked, size), verdict.alarms)

    async def look(self) -> Looked:
        """Ask every place, and follow the log. What the stream holds was committed before it was published, so it is
        asked before the log is."""
        stream, kv = await self._ask_nats()
        anchored, unreachable = await self._ask_anchor()
        moment = await store.moment(self._pool, self._site_id)
        if moment.size == 0:
            raise NotSigned("no-genesis", "the log is empty")
        followed = self._follower.log.size
        if followed > moment.size:  # of what is missing nothing else can be judged
            shorter = agreement.decide({agreement.MEMORY: Ahead(followed)}, moment.size)
            assert isinstance(shorter, Refuse)
            raise NotSigned(shorter.reason, shorter.detail)
        notes = {
            agreement.NATS: kv.note if isinstance(kv, Revised) else None,
            agreement.ANCHOR: anchored.note if anchored else None,
            agreement.DATABASE: moment.note,
            agreement.MEMORY: self._follower.log.checkpoint,
        }
        await self._follow(moment, notes)
        if stream is not None:
            await self._compare_stream(*stream)
        said: dict[str, Said] = {}
        checkpoints: dict[str, Checkpoint] = {}
        for name, note in notes.items():
            if note is not None:
                said[name] = await self._judge(name, note, checkpoints)
        if moment.note is not None and _claimed_size(moment.note) != moment.noted:
            said[agreement.DATABASE] = Disagrees(f"the checkpoint in its row of size {moment.noted} is of another size")
        said.setdefault(agreement.MEMORY, Nothing(lost=False))
        said.setdefault(agreement.DATABASE, Nothing(lost=True))
        said.setdefault(agreement.ANCHOR, unreachable or Nothing(lost=True))
        if isinstance(kv, Unreachable):
            said[agreement.NATS] = kv
        elif kv is not None:
            written = anchored is None or agreement.NATS in anchored.written
            said.setdefault(agreement.NATS, Nothing(lost=written))
        for name, each in self.cosigning.said().items():
            said[name] = await self._judge_witness(name, each)
        return Looked(said, checkpoints, kv if isinstance(kv, Revised) else None, anchored, moment)

    # --- what the places know ----------------------------------------------------------------------------------------

    @property
    def _site_id(self) -> int:
        return self.site.site_id

    async def _ask_nats(self) -> tuple[tuple[int, int, bytes | None] | None, Revised | Unreachable | None]:
        """The stream (last seq; seq and entry of its last message) and the record; None where NATS is not set up."""
        if self._bus is None:
            return None, None
        try:
            bus = self._bus()
            stream = None
            info = await bus.stream_info(self._stream.stream, self._stream.tombstones)
            if info is not None:
                last = await bus.last_message(self._stream.stream, self._stream.subjects)
                entry = published_entry(last.header("ce-entry")) if last is not None else None
                stream = (info.state.last_seq, 0 if last is None else last.seq, entry)
            return stream, await self._kv.read(bus)
        except BusError as error:
            return None, Unreachable(error.slug)

    async def _ask_anchor(self) -> tuple[Anchored | None, Unreachable | None]:
        try:
            return await in_thread(self._anchor.read), None
        except RecordUnreachable as error:
            return None, Unreachable(error.slug)

    async def _follow(self, moment: store.Moment, notes: dict[str, bytes | None]) -> None:
        """Up to the log's end, or as far as one checkpoint may go beyond what is signed."""
        known = max((_claimed_size(note) for note in notes.values() if note), default=0)
        base = max(moment.written, known, self._follower.log.size)
        if moment.size > base + config.CHECKPOINT_MAX_GROWTH_ENTRIES:
            moment = moment._replace(size=base + config.CHECKPOINT_MAX_GROWTH_ENTRIES)
        await self._follower.catch_up(moment)
        self._remember(self._follower.log.size, self._follower.log.root())

    async def _compare_stream(self, last_seq: int, seq: int, entry: bytes | None) -> None:
        size = self._follower.log.size
        if last_seq >= size:  # unless it is read only so far
            size = max(size, (await store.moment(self._pool, self._site_id)).size)
        rows = await store.entries_at(self._pool, self._site_id, [seq]) if 0 < seq < size else {}
        refused = agreement.stream_said(last_seq, size, [(entry, row[0]) for row in rows.values()])
        if refused is not None:
            raise NotSigned(refused.reason, refused.detail)

    async def _judge(self, name: str, note: bytes, checkpoints: dict[str, Checkpoint]) -> Said:
        keys = self._follower.log.keys
        if keys is None:
            return Ahead(_claimed_size(note))
        checkpoint = agreement.read_record(note, self.site.origin, keys)
        if isinstance(checkpoint, Disagrees):
            return checkpoint
        said = agreement.compare(checkpoint, self._follower.log.size, await self._root_at(checkpoint))
        if isinstance(said, Agrees):
            checkpoints[name] = checkpoint
        return said

    async def _judge_witness(self, name: str, said: Said) -> Said:
        """A witness that was ahead may be no more. What it shows counts if a key of this log signed it; what it only
        says, for as long as the log is shorter. One that refuses what continues its own checkpoint is wrong, and stops
        no log."""
        if not isinstance(said, Ahead | Disagrees):
            return said
        held, keys = self.cosigning.held(name), self._follower.log.keys
        if held is not None and keys is not None:
            checkpoint = agreement.read_record(held.encode(), self.site.origin, keys)
            if isinstance(checkpoint, Checkpoint):
                shown = agreement.compare(checkpoint, self._follower.log.size, await self._root_at(checkpoint))
                if isinstance(said, Disagrees) and isinstance(shown, Agrees):
                    return Unreachable("witness-wrong")
                return shown
        if isinstance(said, Disagrees):
            return said
        return said if said.size > self._follower.log.size else Nothing(lost=False)

    async def _root_at(self, checkpoint: Checkpoint) -> bytes | None:
        """The log's root at the size of a checkpoint, proven from the entries that were followed; None beyond them."""
        size, log = checkpoint.size, self._follower.log
        if size > log.size:
            return None
        if size not in self._roots:
            try:
                proof = await self._tree.consistency(size, log.size)
                check_consistency(size, log.size, proof, checkpoint.root, log.root())
                self._remember(size, checkpoint.root)
            except (ProofInvalid, NotFound, Unavailable):  # another root, or tiles that are wrong or not there
                self._remember(size, await self._root_from_entries(size))
        return self._roots[size]

    def _remember(self, size: int, root: bytes) -> None:
        self._roots[size] = root
        while len(self._roots) > _ROOTS_KEPT:
            self._roots.popitem(last=False)

    async def _root_from_entries(self, size: int) -> bytes:
        """Slow, and of nothing but entries, which have to lead to the root that was followed."""
        frontier, root, end = Frontier(), b"", self._follower.log.size
        while frontier.size < end:
            upto = min(frontier.size + config.CHECKPOINT_SLICE_ENTRIES, end)
            upto = size if frontier.size < size < upto else upto
            entries = await log_store.entries(self._pool, self._site_id, frontier.size, upto)
            if len(entries) < upto - frontier.size:
                seq = frontier.size + len(entries)
                raise NotSigned("rule-2", f"rule 2 at entry {seq}: it is missing")
            for entry in entries:
                frontier.add(leaf_hash(entry))
            if frontier.size == size:
                root = frontier.root()
        if frontier.root() != self._follower.log.root():
            raise NotSigned("memory-disagrees", "the entries do not lead to the root that was followed: rewritten")
        return root

    async def _prove(self, old: int, new: int) -> list[bytes]:
        return await self._tree.consistency(old, new)

    # --- signing -----------------------------------------------------------------------------------------------------

    async def _resume(self, looked: Looked, known: int) -> None:
        """Once a process: the witnesses are asked with what was signed last, before anything new is."""
        if self._asked_witnesses or not known:
            return
        # That of the database has the cosignatures.
        places = (agreement.DATABASE, agreement.NATS, agreement.ANCHOR, agreement.MEMORY)
        self.cosigning.resume(
            next(looked.notes[p] for p in places if p in looked.notes and looked.notes[p].size == known)
        )
        self._asked_witnesses = True
        await self.cosigning.ask_all()
        for name, said in self.cosigning.said().items():
            said = await self._judge_witness(name, said)
            verdict = agreement.decide({**looked.said, name: said}, self._follower.log.size)
            if isinstance(verdict, Refuse):
                raise NotSigned(verdict.reason, verdict.detail)

    async def _sign(self, looked: Looked, size: int) -> bool:
        """Sign the log at this size, unless everybody knows that already, and write it wherever it is not known."""
        log, said = self._follower.log, looked.said
        behind = {
            name
            for name in (agreement.NATS, agreement.MEMORY, agreement.ANCHOR, agreement.DATABASE)
            if name in said and not isinstance(said[name], Unreachable) and _size(said[name]) < size
        }
        if not behind:
            return False
        checkpoint = self._signed(size, log.root() if size == log.size else log.log_id)
        note, written = (
            checkpoint.encode(),
            {name: each.size for name, each in said.items() if isinstance(each, Agrees)},
        )
        if agreement.NATS in behind and self._bus is not None and looked.kv is not None:
            # Whoever is second here has signed nothing that anybody saw.
            await self._kv.write(self._bus(), note, looked.kv.revision)
            written[agreement.NATS] = size
            self._wrote(agreement.NATS)
        await in_thread(log.keep, note)
        self._wrote(agreement.MEMORY)
        if looked.anchored is not None:
            with contextlib.suppress(RecordUnreachable):  # the memory has it, and the next look alarms
                await in_thread(self._anchor.write, note, looked.anchored.note, written)
            self._wrote(agreement.ANCHOR)
        if agreement.DATABASE in behind:
            tiles = await self._tiles.up_to(looked.moment.written, size, checkpoint.root)
            cosigned_note, cosigned = self.cosigning.note(checkpoint)
            previous = looked.moment.written
            if not await store.put_checkpoint(
                self._pool, self._site_id, previous, size, cosigned_note, cosigned, tiles
            ):
                self._tiles.forget()
                raise RecordChanged("another checkpointer wrote to the database")
            self._tiles.done(size)
            self._wrote(agreement.DATABASE)
        self.cosigning.publish(checkpoint)
        # After the first checkpoint they are asked before a second one: nobody else may know what was signed before.
        self._asked_witnesses = size > 1
        return True

    def _signed(self, size: int, root: bytes) -> Checkpoint:
        """Signed with every active log key at hand: during a rotation with both."""
        keys = self._follower.log.keys
        assert keys is not None
        checkpoint = Checkpoint(self.site.origin, size, root)
        for vkey, key in self._keys_at_hand(keys, size):
            checkpoint = sign_checkpoint(checkpoint, vkey, key)
            checkpoint.signed_by(vkey)  # a library that signs wrongly is found here
        return checkpoint

    def _keys_at_hand(self, keys: KeySet, size: int) -> list[tuple[VerifierKey, SigningKey]]:
        active = keys.log_keys if size > 1 else keys.ever_log_keys[:1]
        if self._keys[0] != active or len(self._keys[1]) < len(active):
            try:
                here = {key.public: key for key in key_files.log_keys(self._settings, self.site.site)}
            except ConfigInvalid as error:
                raise NotSigned("no-log-key", str(error)) from error
            self._keys = active, [(vkey, here[vkey.public]) for vkey in active if vkey.public in here]
        if not self._keys[1]:
            raise NotSigned("no-log-key", "no log key on this machine is active in the log: put the key file back")
        return self._keys[1]


def _size(said: Said) -> int:
    return said.size if isinstance(said, Agrees) else 0


def _claimed_size(note: bytes) -> int:
    """What a record claims, before it is known whether it is one."""
    try:
        return parse_checkpoint(note).size
    except Malformed:
        return 0
