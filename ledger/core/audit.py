"""The auditor of a log: fed with bytes in order, it says which of the fourteen rules are broken, and at which entry.

It fetches nothing, and knows neither clock nor randomness. Per entry it remembers 16 bytes for what must be unique in
the log and three bits for what was opened and erased. The costly part, `audit_chunk`, may run in other processes.
"""

from __future__ import annotations

from enum import StrEnum
from hashlib import sha256
from typing import NamedTuple

from ledger.core.admin_act import decode_logged
from ledger.core.chunk import Chunk, Findings, Policy, Signers
from ledger.core.entry import HEAD_BYTES, ZEROS, Kind
from ledger.core.errors import Malformed
from ledger.core.faults import Faults
from ledger.core.heads import Heads, Pins
from ledger.core.key_audit import KeyAudit
from ledger.core.merkle import EMPTY_ROOT, HASH_BYTES
from ledger.core.note import Checkpoint, parse_checkpoint
from ledger.core.opening import decode_line, split_lines
from ledger.core.tile import ENTRIES, TILE_WIDTH, Tile, decode_bundle
from ledger.core.tree import HashTile, TileTree
from ledger.core.unique import Fingerprints, Recheck

MAX_POLICY_ENTRIES = 100_000
"""No log comes near; beyond it the audit could not run in bounded memory."""
MAX_KNOWN_DOCUMENTS = 65_536
"""Documents remembered as seen; a log that cites more has some of them read again."""

_EVENT_LENGTH = HEAD_BYTES.to_bytes(2, "big")
_EVENT_FRAME_BYTES = 2 + HEAD_BYTES
_KIND_AT = 49
_UNSIGNED = "— unsigned AAAAAAA=\n".encode()


class Verdict(StrEnum):
    SOUND = "sound"
    FAULT = "fault"
    LOG_ONLY = "log only"


class Due(NamedTuple):
    """What the auditor has to see next: hash tiles with what they must hold, documents with the seq that cites them."""

    tiles: list[HashTile]
    documents: list[tuple[bytes, int]]


class Note(NamedTuple):
    """What a report has to say beside faults: what was taken on trust, or could not be looked at."""

    rule: int
    text: str


class Summary(NamedTuple):
    """What an audit counted. Times are unix milliseconds, None where no entry could be read; `log_id` b"" likewise."""

    entries: int
    log_id: bytes
    first_ms: int | None
    last_ms: int | None
    kinds: tuple[int, ...]
    opened: int
    erased: int
    signatures: int


def read_checkpoint(data: bytes, faults: Faults) -> Checkpoint:
    """The checkpoint to audit. One without any signature is a fault of rule 1, and still tells where the log ends;
    of anything worse nothing can be made: `Malformed`."""
    try:
        return parse_checkpoint(data)
    except Malformed as error:
        unsigned = parse_checkpoint(data + _UNSIGNED)
        faults.add(1, f"checkpoint: {error}")  # 1
        return unsigned._replace(signatures=())


class Auditor:
    """One audit, in this order:

    1. `Auditor(…)`, `keep` for each checkpoint kept over time, `begin`.
    2. For each entry bundle in order: `chunk` frames it, `audit_chunk` judges it (anywhere), `take` takes its findings
       back in order and says what is `Due`; then `tile` and `document` for each thing due.
    3. `finish`, then `tile` for the partial tiles due. If it is `suspicious`, `recheck` for every bundle again.

    The rules, and where they are kept:

    1   parsing             core/encoding, note, entry, keys; framing in `chunk`
    2   root and tiles      `take`, `tile`, `finish`
    3   seq and prev        core/chunk; `take` from one bundle to the next
    4   whose log, who      core/heads; `chunk` for the log id
        signed
    5   kinds, commit,      core/chunk; core/key_audit for key operations
        public
    6   time                core/chunk by the bounds of core/heads; `take` from one bundle to the next
    7   signers             core/chunk; core/key_audit for the root's
    8   keys                core/keys, through core/key_audit
    9   unique, cited       `take`, `document`, `recheck`; core/key_audit
    10  openings            core/chunk; lines that are left over where they are dealt out (ledger/bundle)
    11  erasures            core/chunk for their form, `take` for what they name
    12  opened or erased    `finish`; core/chunk for erasure records
    13  `--old`             `Chunk.signed_below` skips signatures of ingest keys and nothing else, and only if the key
                            given out of band signed the older checkpoint
    14  without payloads    `verdict`

    Of an entry of kinds 1 and 3 the core is unique if its commitment is, of kind 4 if its version is.
    """

    def __init__(self, pins: Pins, checkpoint: Checkpoint, faults: Faults, *, log_only: bool, key: bytes) -> None:
        """`key`: random bytes of this run, for fingerprints."""
        self.faults = faults
        self.checkpoint = checkpoint
        self.heads = Heads(pins, checkpoint, faults)
        self.log_only = log_only
        self.stopped = False
        """The log cannot be read beyond this point, or nothing beyond it would mean anything."""
        self._pins = pins
        self._key = key
        self._site = checkpoint.origin.rpartition("/")[2]
        self._keys = KeyAudit(checkpoint.origin, faults)
        self._begun = 0
        self._signed_below = 0
        if pins.old is not None and self.heads.old_counts and self.heads.signed_by_pinned(pins.old):
            self._signed_below = pins.old.size

        self._tree = TileTree()
        self._taken = 0
        self._tip = ZEROS
        self._first_ms: int | None = None
        self._last_ms: int | None = None
        self._events: list[bytes] = []
        self._opened: list[bytes] = []
        self._erased: list[bytearray] = []
        self._kinds = [0] * len(Kind)
        self._signatures = 0
        self._policies: dict[str, Policy] = {}
        self._documents: set[bytes] = set()
        self._commitments = Fingerprints()
        self._ids = Fingerprints()
        self._recheck: tuple[Recheck, Recheck] | None = None

    def keep(self, name: str, data: bytes | None) -> None:
        """A checkpoint kept over time; None for a file that is no checkpoint at all."""
        try:
            checkpoint = parse_checkpoint(data or b"")
        except Malformed as error:
            self.faults.add(1, f"{name}: {error}")  # 1
            return
        self.heads.keep(name, checkpoint)

    def begin(self) -> None:
        """All checkpoints are there; entries follow."""
        self.heads.close()
        if self.checkpoint.size == 0:
            self.heads.compare(0, EMPTY_ROOT)

    def chunk(self, bundle: bytes | None, width: int, openings: bytes | None) -> Chunk | None:
        """The next entry bundle (None: it is missing) and the lines of its openings, ready for `audit_chunk`.

        None, and `stopped`, where the log cannot be read on.
        """
        first = self._begun
        path = Tile(ENTRIES, first // TILE_WIDTH, width).path
        if bundle is None:
            self.faults.add(2, f"{path} is missing", first)  # 2
            self.stopped = True
            return None
        signers: list[Signers] = []
        if first and _only_events(bundle, width):
            signers.append(Signers(first, self._keys.active))
        else:
            try:
                entries = decode_bundle(bundle, width)
            except Malformed as error:
                self.faults.add(1, f"{path}: {error}", first)  # 1
                self.stopped = True
                return None
            signers = self._read_keys(entries, first)
        if not signers:
            self.stopped = True  # no genesis, no keys
        self._begun += width
        return Chunk(
            first,
            width,
            bundle,
            self._keys.log_id,
            self._site,
            tuple(signers),
            self.heads.bounds(first, width),
            openings,
            self._signed_below,
            self._key,
        )

    def _read_keys(self, entries: list[bytes], first: int) -> list[Signers]:
        if first == 0:
            self._keys.genesis(entries[0])
            if self._pins.log_id not in (None, self._keys.log_id):
                self.faults.add(4, f"the log id is {self._keys.log_id.hex()}, not the one given: another log", 0)  # 4
            if self._keys.keys is None:
                return []
        signers = [Signers(first, self._keys.active)]
        for seq, entry in enumerate(entries, first):
            if entry[_KIND_AT : _KIND_AT + 1] == bytes((Kind.KEY,)) and self._keys.key_entry(entry, seq):
                signers.append(Signers(seq + 1, self._keys.active))
        return signers

    def take(self, findings: Findings) -> Due:
        """The findings of the next chunk, in log order."""
        first, faults = findings.first, self.faults
        if first != self._taken:
            raise RuntimeError("findings are taken in log order")
        self._taken += findings.width
        faults.extend(findings.faults)
        if findings.first_prev not in (None, self._tip):
            faults.add(3, "prev is not the leaf hash of the entry before", first)  # 3
        if findings.first_ms is not None and self._last_ms is not None and findings.first_ms < self._last_ms:
            faults.add(6, f"its time is {self._last_ms - findings.first_ms} ms before the entry before it", first)  # 6
        self._tip = findings.leaves[-HASH_BYTES:]
        self._first_ms = findings.first_ms if self._first_ms is None else self._first_ms
        self._last_ms = self._last_ms if findings.last_ms is None else findings.last_ms

        for size in self.heads.sizes_within(first, findings.width):
            self.heads.compare(size, self._tree.root_with(findings.leaves, size - first))
        tiles = self._tree.add(findings.leaves, findings.root)

        self._events.append(_bitmap(findings.events))
        self._opened.append(_bitmap(findings.opened))
        self._erased.append(bytearray(TILE_WIDTH // 8))
        for seq, named in findings.erasures:
            self._erase(seq, named)
        self._kinds = [a + b for a, b in zip(self._kinds, findings.kinds, strict=True)]
        self._signatures += findings.signatures
        self._commitments.add(findings.commitments)
        self._ids.add(findings.ids)
        return Due(tiles, self._take_citations(findings))

    def _take_citations(self, findings: Findings) -> list[tuple[bytes, int]]:
        """9: versions are new, cited versions are earlier; the documents cited, unless seen already."""
        for policy in findings.policies:
            used = self._policies.setdefault(policy.version, policy)
            if used is not policy:
                self.faults.add(9, f"version {policy.version} was used at entry {used.seq} already", policy.seq)
        if len(self._policies) > MAX_POLICY_ENTRIES:
            raise Malformed(f"more than {MAX_POLICY_ENTRIES:,} policies: beyond what this auditor takes on")
        for version, seqs in findings.versions.items():
            published = self._policies.get(version)
            for seq in seqs:
                if published is None or published.seq >= seq:
                    self.faults.add(9, f"policyVersion {version} names no earlier entry", seq)
        cited = [(policy.document, policy.seq) for policy in findings.policies]
        cited += [(bytes.fromhex(digest), seq) for digest, seq in findings.shown.items()]
        return [(digest, seq) for digest, seq in cited if digest not in self._documents]

    def _erase(self, seq: int, named: tuple[int, ...]) -> None:
        """11"""
        for target in named:
            if target >= seq:
                self.faults.add(11, f"it names entry {target}, which is not below its own", seq)
                continue
            index, byte, bit = target // TILE_WIDTH, target % TILE_WIDTH // 8, 1 << target % 8
            if not self._events[index][byte] & bit:
                self.faults.add(11, f"it names entry {target}, which is no event", seq)
            elif self._erased[index][byte] & bit:
                self.faults.add(11, f"it names entry {target}, which was erased before", seq)
            self._erased[index][byte] |= bit

    def tile(self, due: HashTile, data: bytes | None) -> None:
        """A hash tile that was due; None if it is missing."""
        if data != due.hashes:
            state = "is missing" if data is None else "does not hold the hashes of the entries"
            self.faults.add(2, f"{due.tile.path} {state}")  # 2

    def document(self, digest: bytes, seq: int, data: bytes | None) -> None:
        """A document that was due, cited at `seq`; None if it is missing."""
        if data is None and self.log_only:
            return
        if len(self._documents) >= MAX_KNOWN_DOCUMENTS:
            self._documents.clear()
        self._documents.add(digest)
        if data is None:
            self.faults.add(9, f"document {digest.hex()} is missing", seq)  # 9
        elif sha256(data).digest() != digest:
            self.faults.add(9, f"document {digest.hex()} is another text than its name says", seq)  # 9

    def finish(self) -> Due:
        """All bundles were taken."""
        self.heads.judge(self._keys.keys, complete=not self.stopped)
        if self.stopped:
            return Due([], [])
        for i, (events, opened, erased) in enumerate(zip(self._events, self._opened, self._erased, strict=True)):
            self._opened_or_erased(i * TILE_WIDTH, *(int.from_bytes(b, "little") for b in (events, opened, erased)))
        commitments, ids = self._commitments.suspects(), self._ids.suspects()
        if commitments or ids:
            self._recheck = Recheck(commitments, self._key), Recheck(ids, self._key)
        return Due(self._tree.partial(), [])

    def _opened_or_erased(self, first: int, events: int, opened: int, erased: int) -> None:
        """12"""
        if self.log_only or not (wrong := events & ~(opened ^ erased)):
            return
        for i in range(TILE_WIDTH):
            if wrong >> i & 1:
                both = opened >> i & 1
                detail = "erased, and its opening is still there" if both else "neither opened nor erased"
                self.faults.add(12, detail, first + i)

    @property
    def suspicious(self) -> bool:
        """Something seems to be in the log twice: every bundle has to be read again, and given to `recheck`."""
        return self._recheck is not None

    def recheck(self, first: int, width: int, bundle: bytes, openings: bytes | None) -> None:
        """9: which commitments and event ids came before."""
        if self._recheck is None:
            raise RuntimeError("there is nothing to look at again")
        commitments, ids = self._recheck
        for seq, data in enumerate(decode_bundle(bundle, width), first):
            if len(data) >= HEAD_BYTES and data[_KIND_AT] in (Kind.EVENT, Kind.ERASURE):
                earlier = commitments.earlier(data[50:82], seq)
                if earlier is not None:
                    self.faults.add(9, f"the commitment, and so the core, of entry {earlier} again", seq)
        for line in split_lines(openings or b""):
            try:
                opening = decode_line(line)
                event = decode_logged(opening.payload, self._site)
            except Malformed:
                continue
            earlier = ids.earlier(event.id.encode(), opening.seq)
            if earlier is not None:
                self.faults.add(9, f"the event id of entry {earlier} again", opening.seq)

    @property
    def root_key_pinned(self) -> bool:
        """Whether the auditor knew the genesis entry, or an older checkpoint that covers it (4)."""
        old = self._pins.old
        return self._pins.log_id is not None or (old is not None and self.heads.old_counts and old.size > 0)

    @property
    def verdict(self) -> Verdict:
        if self.faults:
            return Verdict.FAULT
        return Verdict.LOG_ONLY if self.log_only else Verdict.SOUND  # 14

    def summary(self) -> Summary:
        return Summary(
            self._taken,
            self._keys.log_id,
            self._first_ms,
            self._last_ms,
            tuple(self._kinds),
            sum(int.from_bytes(b, "little").bit_count() for b in self._opened),
            sum(int.from_bytes(b, "little").bit_count() for b in self._erased),
            self._signatures + self._keys.signatures,
        )

    def notes(self) -> list[Note]:
        """What the reader of the verdict has to know."""
        notes = []
        if not self.root_key_pinned:
            notes.append(
                Note(4, "the root key was asserted by the log itself: the log's id, or an older checkpoint, pins it")
            )
        gap = self.heads.longest_gap_seconds
        if gap is not None:
            notes.append(Note(6, f"the longest gap between cosignatures is {gap} s: the room for back-dating"))
        for witness, count in self.heads.cosigned.items():
            if not count:
                notes.append(Note(6, f"no cosignature of {witness.partition('+')[0]} is at hand"))
        if self._signed_below:
            notes.append(
                Note(13, f"signatures below entry {self._signed_below} were not checked again: --old covers them")
            )
        if self.log_only:
            notes.append(Note(14, "there are no payloads: openings and what they cite were not checked"))
        if self.stopped:
            notes.append(Note(2, f"the log could not be read beyond entry {self._taken}; later faults are not listed"))
        return notes


def _only_events(bundle: bytes, width: int) -> bool:
    """A bundle of nothing but plain events, told by its stride: then it is well framed, and holds no keys."""
    return (
        len(bundle) == width * _EVENT_FRAME_BYTES
        and bundle[0::_EVENT_FRAME_BYTES] == _EVENT_LENGTH[:1] * width
        and bundle[1::_EVENT_FRAME_BYTES] == _EVENT_LENGTH[1:] * width
        and bundle[2 + _KIND_AT :: _EVENT_FRAME_BYTES] == bytes((Kind.EVENT,)) * width
    )


def _bitmap(bits: int) -> bytes:
    return bits.to_bytes(TILE_WIDTH // 8, "little")
