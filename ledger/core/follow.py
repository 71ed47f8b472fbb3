"""The incremental auditor: it judges a log's entries as they come, and remembers what later ones are judged by.

`core/audit` judges a log whole; this one judges it for ever, from wherever it stopped. The rules are the same, and so
is the code that costs (core/chunk, core/key_audit). What has to be known of all earlier entries lies in a `Memory`,
so that the log's length costs no space here. It fetches nothing, and knows neither clock nor randomness.

A round is any number of `step`s, each with what it still asks for settled (`document`, `recheck`), and then one
`keep`; where a step found a fault there is nothing to keep, and `drop` goes back to what was kept last.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from enum import StrEnum
from hashlib import sha256
from typing import NamedTuple, Protocol

from ledger.core.admin_act import decode_logged
from ledger.core.chunk import Bound, Chunk, Findings, Signers, audit_chunk
from ledger.core.entry import HAS_OPENING, MAX_ENTRY_BYTES, ZEROS, Kind
from ledger.core.errors import Malformed
from ledger.core.faults import Faults
from ledger.core.key_audit import KeyAudit
from ledger.core.keys import KeySet
from ledger.core.merkle import HASH_BYTES, Frontier
from ledger.core.opening import Opening, encode_line
from ledger.core.tile import encode_bundle

MAX_STEP_ENTRIES = 4_096
_KIND_AT = 49
_COMMIT = slice(50, 82)


class Sort(StrEnum):
    """What has to be unique in the whole log, by fingerprint."""

    COMMITMENT = "commitment"
    EVENT_ID = "event_id"


class State(NamedTuple):
    """Where a follower stands: after `size` entries, with the hashes of the tree's right edge (largest first), the
    last leaf hash, the last time (unix ms; None before genesis), and the checkpoint kept last (a signed note)."""

    size: int = 0
    edge: tuple[bytes, ...] = ()
    tip: bytes = ZEROS
    ms: int | None = None
    checkpoint: bytes | None = None


class Repeated(NamedTuple):
    """A fingerprint that is there already, put there by entry `earlier`."""

    seq: int
    earlier: int


class Memory(Protocol):
    """What a follower remembers of a log. Nothing is kept before `save`, and then all of it at once."""

    key: bytes
    """Of fingerprints: random, made with the memory."""

    def load(self) -> tuple[State, list[bytes]]:
        """What was saved last, and the entries of kinds 0 and 2 in order."""

    def add(self, sort: Sort, fingerprints: Sequence[int], seqs: Sequence[int]) -> list[Repeated]:
        """Fingerprints (signed, 8 bytes) with their seqs; those that were there stay as they are."""

    def add_policy(self, version: str, seq: int) -> int:
        """The seq at which this version was published first."""

    def policies(self, versions: Iterable[str]) -> dict[str, int]:
        """Version -> seq, for those that are known."""

    def add_key_entry(self, seq: int, entry: bytes) -> None: ...

    def add_others(self, seqs: Iterable[int]) -> None:
        """Entries that are no events."""

    def others(self, seqs: Sequence[int]) -> set[int]:
        """Those of `seqs` that are no events."""

    def add_unopened(self, seqs: Iterable[int]) -> None:
        """Events whose opening was not there."""

    def first_unopened(self) -> int | None:
        """The first event without an opening that no erasure has named yet."""

    def erase(self, seqs: Sequence[int], by: int) -> list[int]:
        """Note what the erasure at `by` names; those that were erased before."""

    def save(self, state: State) -> None: ...

    def rollback(self) -> None:
        """Forget what was not saved."""


class Suspect(NamedTuple):
    """Something that seems to be in the log twice. Look at entry `earlier`, and give it to `recheck`."""

    sort: Sort
    seq: int
    earlier: int
    value: bytes


class Step(NamedTuple):
    """What one step found. `documents` (hash, seq that cites it) and `suspects` are still to be settled.

    For whoever holds the openings (rule 12): those of what `erasures` (seq, what it names) name have to be gone, and
    `unopened` are the events of this step that had none.
    """

    first: int
    faults: Faults
    leaves: bytes
    documents: list[tuple[bytes, int]]
    suspects: list[Suspect]
    erasures: list[tuple[int, tuple[int, ...]]]
    unopened: list[int]


class Follower:
    """One log, followed from genesis on. Rules 1 and 3 to 12 as `core/audit` keeps them, with these differences:

    2, 4   the caller compares roots and signatures of checkpoints, with `root` and `keys`
    6      the bound is given (`latest_ms`), as nobody knows yet when these entries will be cosigned
    12     an event without an opening is remembered until an erasure names it: see `unopened`
    """

    def __init__(self, origin: str, memory: Memory, log_id: bytes | None = None) -> None:
        """`log_id` is the one given out of band, if any: another genesis is then a fault of rule 4."""
        self.origin = origin
        self._site = origin.rpartition("/")[2]
        self._memory = memory
        self._pinned = log_id
        self._load()

    def _load(self) -> None:
        self._broken = False
        self._kept, key_entries = self._memory.load()
        state = self._kept
        self._frontier = Frontier(state.size, state.edge)
        self.tip, self.last_ms = state.tip, state.ms
        faults = Faults()
        self._keys = KeyAudit(self.origin, faults)
        for seq, entry in enumerate(key_entries):
            if seq == 0:
                self._keys.genesis(entry)
            else:
                self._keys.key_entry(entry, seq)
        if faults or bool(key_entries) != (state.size > 0):
            raise Malformed("the follower's memory is damaged: delete its file, and it is made anew from the log")

    @property
    def size(self) -> int:
        return self._frontier.size

    @property
    def log_id(self) -> bytes:
        """Empty before genesis."""
        return self._keys.log_id

    @property
    def keys(self) -> KeySet | None:
        """The keys of the log at this size; None before genesis."""
        return self._keys.keys

    @property
    def checkpoint(self) -> bytes | None:
        """The checkpoint that was kept last."""
        return self._kept.checkpoint

    @property
    def unopened(self) -> int | None:
        """The first event that has no opening and that no erasure named so far."""
        return self._memory.first_unopened()

    def root(self) -> bytes:
        """The tree head over all entries so far."""
        return self._frontier.root()

    def frontier(self) -> Frontier:
        """The right edge of the tree, as a copy."""
        return self._frontier.copy()

    def step(self, entries: Sequence[bytes], openings: Sequence[Opening] | None, latest_ms: int | None = None) -> Step:
        """Judge the next entries, at most `MAX_STEP_ENTRIES`, with the openings at hand of these (ascending by seq).

        None: the log alone is followed, without openings. `latest_ms`: no entry may be later (rule 6).
        """
        first, faults = self.size, Faults()
        if self._broken:
            raise RuntimeError("a fault was found: drop what was not kept")
        if not 0 < len(entries) <= MAX_STEP_ENTRIES:
            raise ValueError(f"a step has 1 to {MAX_STEP_ENTRIES} entries")
        self._broken = True  # until it is known to be whole
        for seq, entry in enumerate(entries, first):
            if len(entry) > MAX_ENTRY_BYTES:
                faults.add(1, f"an entry has at most {MAX_ENTRY_BYTES} bytes, this one {len(entry)}", seq)  # 1
        if faults:
            return Step(first, faults, b"", [], [], [], [])
        self._keys.faults = faults
        signers = self._read_keys(entries, first)
        findings = audit_chunk(
            Chunk(
                first,
                len(entries),
                encode_bundle(entries),
                self._keys.log_id,
                self._site,
                signers,
                () if latest_ms is None else (Bound(first + len(entries), latest_ms),),
                None if openings is None else b"".join(map(encode_line, openings)),
                0,
                self._memory.key,
            )
        )
        faults.extend(findings.faults)
        if findings.first_prev not in (None, self.tip):
            faults.add(3, "prev is not the leaf hash of the entry before", first)  # 3
        if findings.first_ms is not None and self.last_ms is not None and findings.first_ms < self.last_ms:
            faults.add(6, f"its time is {self.last_ms - findings.first_ms} ms before the entry before it", first)  # 6
        if faults:
            return Step(first, faults, findings.leaves, [], [], [], [])
        suspects = self._remember(findings, entries, openings)
        documents = self._cite(findings, faults)
        unopened = [] if openings is None else _members(findings.events & ~findings.opened, first)
        self._memory.add_unopened(unopened)
        for seq, named in findings.erasures:
            self._erase(seq, named, faults)
        for at in range(0, len(findings.leaves), HASH_BYTES):
            self._frontier.add(findings.leaves[at : at + HASH_BYTES])
        self.tip, self.last_ms = findings.leaves[-HASH_BYTES:], findings.last_ms
        self._broken = bool(faults)
        return Step(first, faults, findings.leaves, documents, suspects, findings.erasures, unopened)

    def _read_keys(self, entries: Sequence[bytes], first: int) -> tuple[Signers, ...]:
        if first == 0:
            self._keys.genesis(entries[0])
            if self._pinned not in (None, self._keys.log_id):
                log_id = self._keys.log_id.hex()
                self._keys.faults.add(4, f"the log id is {log_id}, not the one given: another log", 0)  # 4
        signers = [Signers(first, self._keys.active)]
        for seq, entry in enumerate(entries, first):
            kind = entry[_KIND_AT : _KIND_AT + 1]
            if kind == bytes((Kind.KEY,)) and self._keys.key_entry(entry, seq):
                signers.append(Signers(seq + 1, self._keys.active))
            if kind in (bytes((Kind.GENESIS,)), bytes((Kind.KEY,))):
                self._memory.add_key_entry(seq, entry)
        return tuple(signers)

    def _remember(
        self, findings: Findings, entries: Sequence[bytes], openings: Sequence[Opening] | None
    ) -> list[Suspect]:
        """9, and what 11 and 12 will ask. There is no fault in these findings."""
        first, memory = findings.first, self._memory
        memory.add_others(seq for seq, entry in enumerate(entries, first) if entry[_KIND_AT] != Kind.EVENT)
        committed = [seq for seq, entry in enumerate(entries, first) if entry[_KIND_AT] in HAS_OPENING]
        suspects = [
            Suspect(Sort.COMMITMENT, seq, earlier, entries[seq - first][_COMMIT])
            for seq, earlier in memory.add(Sort.COMMITMENT, array("q", findings.commitments), committed)
        ]
        if openings is None:
            return suspects
        opened = {opening.seq: opening for opening in openings if findings.opened >> (opening.seq - first) & 1}
        return suspects + [
            Suspect(Sort.EVENT_ID, seq, earlier, decode_logged(opened[seq].payload, self._site).id.encode())
            for seq, earlier in memory.add(Sort.EVENT_ID, array("q", findings.ids), list(opened))
        ]

    def _cite(self, findings: Findings, faults: Faults) -> list[tuple[bytes, int]]:
        """9: versions are new, cited versions are earlier; the documents cited."""
        for policy in findings.policies:
            used = self._memory.add_policy(policy.version, policy.seq)
            if used != policy.seq:
                faults.add(9, f"version {policy.version} was used at entry {used} already", policy.seq)
        published = self._memory.policies(findings.versions)
        for version, seqs in findings.versions.items():
            for seq in seqs:
                if published.get(version, seq) >= seq:
                    faults.add(9, f"policyVersion {version} names no earlier entry", seq)
        cited = [(policy.document, policy.seq) for policy in findings.policies]
        return cited + [(bytes.fromhex(digest), seq) for digest, seq in findings.shown.items()]

    def _erase(self, seq: int, named: tuple[int, ...], faults: Faults) -> None:
        """11"""
        if named[-1] >= seq:
            faults.add(11, f"it names entry {named[-1]}, which is not below its own", seq)
            return
        for target in self._memory.others(named):
            faults.add(11, f"it names entry {target}, which is no event", seq)
        for target in self._memory.erase(named, seq):
            faults.add(11, f"it names entry {target}, which was erased before", seq)

    def document(self, step: Step, digest: bytes, seq: int, data: bytes | None) -> None:
        """9: a document that a step asked for; None if it is missing."""
        if data is None:
            self._fault(step, 9, f"document {digest.hex()} is missing", seq)
        elif sha256(data).digest() != digest:
            self._fault(step, 9, f"document {digest.hex()} is another text than its name says", seq)

    def recheck(self, step: Step, suspect: Suspect, entry: bytes, payload: bytes | None) -> None:
        """9: the earlier entry of a suspect, and its payload where it is still there."""
        if suspect.sort is Sort.COMMITMENT:
            if entry[_COMMIT] == suspect.value:
                self._fault(step, 9, f"the commitment, and so the core, of entry {suspect.earlier} again", suspect.seq)
        elif payload is not None and decode_logged(payload, self._site).id.encode() == suspect.value:
            self._fault(step, 9, f"the event id of entry {suspect.earlier} again", suspect.seq)

    def refuse(self, step: Step, rule: int, detail: str, seq: int) -> None:
        """A fault that the caller saw: nothing of this round may be kept."""
        self._fault(step, rule, detail, seq)

    def _fault(self, step: Step, rule: int, detail: str, seq: int) -> None:
        self._broken = True
        step.faults.add(rule, detail, seq)

    def keep(self, checkpoint: bytes | None = None) -> None:
        """Keep all steps since the last `keep`, and with them a checkpoint, at once."""
        if self._broken:
            raise RuntimeError("a fault was found: there is nothing to keep")
        kept = self._kept.checkpoint if checkpoint is None else checkpoint
        state = State(self.size, self._frontier.edge, self.tip, self.last_ms, kept)
        self._memory.save(state)
        self._kept = state

    def drop(self) -> None:
        """Go back to what was kept last."""
        self._memory.rollback()
        self._load()


def _members(bits: int, first: int) -> list[int]:
    """The numbers of a bitmap that begins at `first`."""
    members = []
    while bits:
        low = bits & -bits
        members.append(first + low.bit_length() - 1)
        bits ^= low
    return members
