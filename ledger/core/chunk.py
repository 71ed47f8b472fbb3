"""One entry bundle, audited by itself: all that can be said of its entries without the rest of the log.

This is the costly part of an audit (signatures, commitments, payloads), and a pure function, so that bundles can be
given to any number of processes. What spans bundles is judged by the Auditor (core/audit), which makes the `Chunk`
and takes the `Findings` back in log order. Numbers in comments are audit rules.
"""

from __future__ import annotations

import re
from hashlib import sha256
from itertools import pairwise
from typing import NamedTuple

from ledger.core import ed25519
from ledger.core.admin_act import decode_act, is_admin_log
from ledger.core.citations import Outlines
from ledger.core.columns import PlainEvents, plain_events
from ledger.core.entry import (
    COMMIT_LABEL,
    HAS_OPENING,
    MAX_ERASED_SEQS,
    SALT_BYTES,
    ZEROS,
    Entry,
    Kind,
    core_bytes,
    decode,
)
from ledger.core.errors import BadSignature, Malformed
from ledger.core.event import ErasureRecord, decode_payload
from ledger.core.faults import Faults
from ledger.core.merkle import HASH_BYTES, leaf_hash
from ledger.core.opening import Opening, decode_line, peek_seq, split_lines
from ledger.core.tile import TILE_WIDTH, decode_bundle
from ledger.core.tree import complete_root
from ledger.core.unique import fingerprints

_VERSION = re.compile(rb"[0-9A-Za-z.-]{1,32}")


class Signers(NamedTuple):
    """Ingest keys active from seq `since` on: H(public) -> public."""

    since: int
    active: dict[bytes, bytes]


class Bound(NamedTuple):
    """No entry below seq `below` (and not below an earlier bound) may be later than `ms` (rule 6)."""

    below: int
    ms: int


class Chunk(NamedTuple):
    """A well-framed entry bundle of `width` entries from seq `first` on, and what is needed to judge it.

    `openings` are the lines of payloads.ndjson for these entries, ascending; None where there are no payloads at all.
    `signed_below`: entries below this seq had their signatures checked in an earlier audit. `key`: of fingerprints.
    """

    first: int
    width: int
    bundle: bytes
    log: bytes
    site: str
    signers: tuple[Signers, ...]
    bounds: tuple[Bound, ...]
    openings: bytes | None
    signed_below: int
    key: bytes


class Policy(NamedTuple):
    """A policy entry."""

    seq: int
    version: str
    document: bytes


class Findings(NamedTuple):
    """What a chunk holds, and its faults. Bitmaps have bit i for the entry at `first + i`; None: no entry to tell."""

    first: int
    width: int
    faults: Faults
    leaves: bytes
    root: bytes | None
    first_prev: bytes | None
    first_ms: int | None
    last_ms: int | None
    events: int
    opened: int
    kinds: tuple[int, ...]
    erasures: list[tuple[int, tuple[int, ...]]]
    policies: list[Policy]
    versions: dict[str, list[int]]
    shown: dict[str, int]
    commitments: bytes
    ids: bytes
    signatures: int


def audit_chunk(chunk: Chunk, outlines: Outlines | None = None) -> Findings:
    """Judge every entry of a chunk by rules 1, 3, 5, 6, 7, 9, 10 and 12, as far as it can be judged alone.

    `outlines` of the chunks before make it faster, and change nothing.
    """
    return _ChunkAudit(chunk, outlines or Outlines()).findings()


class _ChunkAudit:
    """The state of one call of `audit_chunk`."""

    def __init__(self, chunk: Chunk, outlines: Outlines) -> None:
        self.chunk = chunk
        self.outlines = outlines
        self.administrative = is_admin_log(chunk.site)
        self.faults = Faults()
        self.openings: dict[int, Opening | None] = {}
        self.leaves: list[bytes] = []
        self.first_prev: bytes | None = None
        self.first_ms: int | None = None
        self.last_ms: int | None = None
        self.events = 0
        self.opened = 0
        self.kinds = [0] * len(Kind)
        self.erasures: list[tuple[int, tuple[int, ...]]] = []
        self.policies: list[Policy] = []
        self.versions: dict[str, list[int]] = {}
        self.shown: dict[str, int] = {}
        self.commitments: list[bytes] = []
        self.ids: list[bytes] = []
        self.unverified: list[tuple[int, bytes, bytes, bytes]] = []

    def findings(self) -> Findings:
        chunk = self.chunk
        self.read_openings()
        plain = plain_events(chunk)
        if plain is None:
            self.read_entries()
        else:
            self.take_plain(plain)
        self.verify_signatures()
        joined = b"".join(self.leaves)
        return Findings(
            chunk.first,
            chunk.width,
            self.faults,
            joined,
            complete_root(joined) if chunk.width == TILE_WIDTH else None,
            self.first_prev,
            self.first_ms,
            self.last_ms,
            self.events,
            self.opened,
            tuple(self.kinds),
            self.erasures,
            self.policies,
            self.versions,
            self.shown,
            fingerprints(self.commitments, chunk.key),
            fingerprints(self.ids, chunk.key),
            len(self.unverified),
        )

    def take_plain(self, plain: PlainEvents) -> None:
        """Nothing is wrong with the entries: openings and signatures are left."""
        first, width = self.chunk.first, self.chunk.width
        self.leaves, self.commitments = plain.leaves, list(plain.commits)
        self.first_prev, self.first_ms, self.last_ms = plain.first_prev, plain.first_ms, plain.last_ms
        self.unverified = plain.signed
        self.kinds[Kind.EVENT] = width
        self.events = (1 << width) - 1
        for seq, opening in self.openings.items():
            if first <= seq < first + width:
                self.check_event(seq, plain.commits[seq - first], opening)

    def read_entries(self) -> None:
        """Every entry by itself."""
        faults, leaves = self.faults, self.leaves
        for seq, data in enumerate(decode_bundle(self.chunk.bundle, self.chunk.width), self.chunk.first):
            leaf = leaf_hash(data)
            try:
                entry = decode(data)
            except Malformed as error:
                faults.add(1, str(error), seq)  # 1
                leaves.append(leaf)
                continue
            if leaves and entry.prev != leaves[-1]:
                faults.add(3, "prev is not the leaf hash of the entry before", seq)  # 3
            if not leaves:
                self.first_prev, self.first_ms = entry.prev, entry.ms
            if self.last_ms is not None and entry.ms < self.last_ms:
                faults.add(6, f"its time is {self.last_ms - entry.ms} ms before the entry before it", seq)  # 6
            leaves.append(leaf)
            self.last_ms = entry.ms
            self.judge(entry, seq)

    def read_openings(self) -> None:
        """Openings by seq; None for one that is there but cannot be read."""
        last = self.chunk.first - 1
        for line in split_lines(self.chunk.openings or b""):
            try:
                opening = decode_line(line)
            except Malformed as error:
                seq = peek_seq(line)
                self.faults.add(1, f"payloads.ndjson: {error}", seq)  # 1
                if seq is not None:
                    self.openings[seq] = None
                continue
            if opening.seq <= last:
                again = "a second opening" if opening.seq in self.openings else "its opening stands in the wrong place"
                self.faults.add(10, again, opening.seq)  # 10
            last = max(last, opening.seq)
            self.openings.setdefault(opening.seq, opening)

    def judge(self, entry: Entry, seq: int) -> None:
        chunk, faults = self.chunk, self.faults
        if entry.seq != seq:
            faults.add(3, f"it claims seq {entry.seq}", seq)  # 3
        for bound in chunk.bounds:
            if seq < bound.below:
                if entry.ms > bound.ms:
                    late = entry.ms - bound.ms
                    faults.add(6, f"{late} ms beyond the 60 s after a cosignature that covers it", seq)  # 6
                break
        if entry.kind >= len(Kind):
            faults.add(5, f"kind {entry.kind} does not exist", seq)  # 5
            return
        self.kinds[entry.kind] += 1
        if (entry.kind == Kind.GENESIS) != (seq == 0):
            faults.add(5, "the genesis entry is at seq 0 and nowhere else", seq)  # 5
            return
        if entry.kind in HAS_OPENING:
            self.commitments.append(entry.commit)  # 9
        elif entry.commit != ZEROS:
            faults.add(5, "only events and erasures have a commitment", seq)  # 5
        if entry.kind in (Kind.EVENT, Kind.ERASURE, Kind.POLICY):
            self.name_signer(entry, seq)
        if entry.kind == Kind.EVENT:
            self.events |= 1 << (seq - chunk.first)
            if entry.public:
                faults.add(5, f"an event's public part is empty, this one has {len(entry.public)} bytes", seq)  # 5
        elif entry.kind == Kind.ERASURE:
            self.read_erasure(entry.public, seq)
        elif entry.kind == Kind.POLICY:
            self.read_policy(entry.public, seq)
        if seq in self.openings:
            self.check_opening(entry, seq, self.openings[seq])
        elif entry.kind == Kind.ERASURE and chunk.openings is not None:
            faults.add(12, "the record of this erasure is not opened", seq)  # 12

    def name_signer(self, entry: Entry, seq: int) -> None:
        """7, for entries signed by an ingest key; those of the root are few, and checked by the Auditor."""
        active: dict[bytes, bytes] = {}
        for signers in self.chunk.signers:
            if signers.since > seq:
                break
            active = signers.active
        public = active.get(entry.signer)
        if public is None:
            self.faults.add(7, "the signer is no ingest key active at this entry", seq)
        elif seq >= self.chunk.signed_below:
            core = core_bytes(self.chunk.log, entry.kind, entry.commit, entry.public)
            self.unverified.append((seq, public, core, entry.signature))

    def verify_signatures(self) -> None:
        """7, all at once: one tight loop leaves the processor's caches to libsodium."""
        for seq, public, core, signature in self.unverified:
            try:
                ed25519.verify(public, core, signature)
            except BadSignature:
                self.faults.add(7, "the signature is not the signer's over this core", seq)

    def read_erasure(self, public: bytes, seq: int) -> None:
        count, rest = divmod(len(public), 8)
        if rest or not 0 < count <= MAX_ERASED_SEQS:
            self.faults.add(5, f"an erasure names 1 to {MAX_ERASED_SEQS} seqs of 8 bytes", seq)  # 5
            return
        named = tuple(int.from_bytes(public[i : i + 8], "big") for i in range(0, len(public), 8))
        if any(a >= b for a, b in pairwise(named)):
            self.faults.add(11, "the seqs it names do not ascend strictly", seq)  # 11
        self.erasures.append((seq, named))

    def read_policy(self, public: bytes, seq: int) -> None:
        if _VERSION.fullmatch(public[HASH_BYTES:]) is None:
            self.faults.add(5, "a policy's public part is a hash and a version of 1 to 32 [0-9A-Za-z.-]", seq)  # 5
            return
        self.policies.append(Policy(seq, public[HASH_BYTES:].decode("ascii"), public[:HASH_BYTES]))

    def check_opening(self, entry: Entry, seq: int, opening: Opening | None) -> None:
        """10"""
        if entry.kind == Kind.EVENT:
            self.check_event(seq, entry.commit, opening)
        elif entry.kind != Kind.ERASURE:
            self.faults.add(10, "an opening of an entry that has none (only events and erasures do)", seq)
        elif opening is not None and self.fits(seq, entry.commit, opening):
            try:
                record = decode_payload(opening.payload, ErasureRecord)
            except Malformed as error:
                self.faults.add(10, str(error), seq)
                return
            self.check_site(seq, record.site)

    def check_event(self, seq: int, commit: bytes, opening: Opening | None) -> None:
        """10, and what 9 asks of an opened event."""
        self.opened |= 1 << (seq - self.chunk.first)
        if opening is None:
            return
        payload = opening.payload
        if (
            sha256(COMMIT_LABEL + opening.salt + payload).digest() != commit or len(opening.salt) != SALT_BYTES
        ) and not self.fits(seq, commit, opening):
            return
        try:
            if self.administrative:
                act = decode_act(payload)
                event_id, site, version, shown = act.id.encode(), act.site, None, None
            else:
                event_id, (site, version, shown) = self.outlines.read(payload)
        except Malformed as error:
            self.faults.add(10, str(error), seq)
            return
        if site != self.chunk.site:
            self.check_site(seq, site)
        self.ids.append(event_id)  # 9
        if version is not None:
            cited = self.versions.get(version)
            if cited is None:
                cited = self.versions[version] = []
            cited.append(seq)
        if shown is not None:
            self.shown.setdefault(shown, seq)

    def fits(self, seq: int, commit: bytes, opening: Opening) -> bool:
        """10: the commitment is over salt and payload joined, so the salt's length matters too."""
        salt = opening.salt
        if len(salt) != SALT_BYTES:
            self.faults.add(10, f"a salt has {SALT_BYTES} bytes, this one {len(salt)}", seq)
        if sha256(COMMIT_LABEL + salt + opening.payload).digest() != commit:
            self.faults.add(10, "salt and payload do not match the commitment", seq)
            return False
        return True

    def check_site(self, seq: int, site: str) -> None:
        """10"""
        if site != self.chunk.site:
            self.faults.add(10, "the payload is of another site than the origin", seq)
