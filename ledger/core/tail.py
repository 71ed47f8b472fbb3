"""The tail of a log as its stream holds it, judged before it is appended again to a ledger that lost it.

Fed with messages in order, it gives the entries that verify, and the first fault. Each window is judged by core/chunk
as in an audit; what spans windows is judged here. What only the ledger's tables know (which ids are taken, what events
below the tail are) is the caller's part. Numbers in comments are audit rules.

What no stream can show: an ingest key signs what an entry says, and neither its position nor its time. Whoever may
write to the stream could drop, reorder or re-time entries of the tail and chain them anew. A checkpoint, a receipt, or
a server that saw the lost entries tells the difference; this cannot.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import NamedTuple

from ledger.core.chunk import Chunk, Findings, Signers, audit_chunk
from ledger.core.encoding import decode_base64
from ledger.core.entry import Kind, core_bytes, decode
from ledger.core.errors import AuditFault, Malformed
from ledger.core.faults import Faults
from ledger.core.key_audit import KeyAudit
from ledger.core.merkle import leaf_hash
from ledger.core.opening import Opening, encode_line
from ledger.core.policy import documents_named_in
from ledger.core.tile import encode_bundle

MAX_AHEAD_MS = 60_000
"""How far an entry may lie ahead of the clock (as in `ledger.lock_head`): beyond it, appending would stop."""


class TailMessage(NamedTuple):
    """A message of the stream: `entry` and `salt` are its headers, None where it has none."""

    entry: str | None
    salt: str | None
    data: bytes


class Gone(NamedTuple):
    """What is left elsewhere of a message that an erasure took from the stream: the event's entry, and the erasure's.
    Without the latter in the stream it tells nothing, for it may be of another continuation."""

    entry: bytes
    by: bytes


class TailEntry(NamedTuple):
    """An entry and what is stored beside it. An event without an opening is a tombstone."""

    seq: int
    ms: int
    kind: int
    entry: bytes
    core: bytes
    """H(core)."""
    salt: bytes | None
    payload: bytes | None
    document: bytes | None

    @property
    def is_tombstone(self) -> bool:
        return self.kind == Kind.EVENT and self.payload is None


class Ledger(NamedTuple):
    """What the ledger below the tail says: its last entry, the entries of kinds 0 and 2, and what may be cited."""

    origin: str
    last: bytes
    keys: Sequence[bytes]
    versions: Mapping[str, int]
    """Policy version -> seq of its entry."""
    documents: frozenset[bytes]
    """SHA-256 of each document at hand."""
    now_ms: int


class Taken(NamedTuple):
    """The next entries that verified. With a `fault`, which is of the entry behind them, the tail ends here."""

    entries: list[TailEntry]
    fault: AuditFault | None


class Tail:
    """One reading of a tail, which begins at `first` and is read up to `size`, where the last leaf hash is `tip`.

    `erased` says which erasure of the tail names an event: seq -> seq.
    """

    def __init__(self, ledger: Ledger) -> None:
        last = decode(ledger.last)
        self.first = self.size = last.seq + 1
        self.erased: dict[int, int] = {}
        self.tip = leaf_hash(ledger.last)
        self._ms = last.ms
        self._latest_ms = ledger.now_ms + MAX_AHEAD_MS
        self._site = ledger.origin.rpartition("/")[2]
        self._versions = dict(ledger.versions)
        self._documents = set(ledger.documents)
        self._not_events: set[int] = set()
        self._faults = Faults()
        self._keys = KeyAudit(ledger.origin, self._faults)
        self._keys.genesis(ledger.keys[0])
        for entry in ledger.keys[1:]:
            self._keys.key_entry(entry, decode(entry).seq)
        for fault in self._faults.first():
            raise fault.raised()

    def take(self, messages: Sequence[TailMessage | None]) -> Taken:
        """Judge the messages of the next seqs, at most 65,536 of them; None where the stream holds none."""
        entries: list[TailEntry] = []
        for seq, message in enumerate(messages, self.size):
            if message is None:
                detail = (
                    "the stream has no message of it (it is too old, or was erased after it was published), "
                    "and no file `erasures` that was given has its entry"
                )
                self._faults.add(2, detail, seq)
                break
            try:
                entries.append(self._read(message, seq))
            except Malformed as error:
                self._faults.add(1, str(error), seq)
                break
        if entries:
            self._judge(entries)
        fault = next((found.raised() for found in self._faults.first()), None)
        if fault is not None:
            assert fault.seq is not None  # of no rule that concerns one entry
            entries = entries[: fault.seq - self.size]
        if entries:
            self.size += len(entries)
            self.tip = leaf_hash(entries[-1].entry)
            self._ms = entries[-1].ms
        return Taken(entries, fault)

    def _read(self, message: TailMessage, seq: int) -> TailEntry:
        data = decode_base64(message.entry or "")
        entry = decode(data)
        salt = payload = document = None
        if message.salt is not None:
            salt, payload = decode_base64(message.salt), message.data
        elif entry.kind == Kind.POLICY:
            document = message.data or None
        elif message.data != (data if entry.kind == Kind.KEY else b""):
            raise Malformed("the message has a body that its entry does not explain")
        core = sha256(core_bytes(self._keys.log_id, entry.kind, entry.commit, entry.public)).digest()
        return TailEntry(seq, entry.ms, entry.kind, data, core, salt, payload, document)

    def _judge(self, entries: Sequence[TailEntry]) -> None:
        first = entries[0]
        signers = [Signers(first.seq, self._keys.active)]
        for each in entries:
            if each.kind == Kind.KEY and self._keys.key_entry(each.entry, each.seq):
                signers.append(Signers(each.seq + 1, self._keys.active))
            if each.kind != Kind.EVENT:
                self._not_events.add(each.seq)
            if each.ms > self._latest_ms:
                self._faults.add(6, f"its time lies {each.ms - self._latest_ms + MAX_AHEAD_MS} ms ahead", each.seq)
        openings = (
            encode_line(Opening(each.seq, each.salt, each.payload))
            for each in entries
            if each.salt is not None and each.payload is not None
        )
        findings = audit_chunk(
            Chunk(
                first=first.seq,
                width=len(entries),
                bundle=encode_bundle([each.entry for each in entries]),
                log=self._keys.log_id,
                site=self._site,
                signers=tuple(signers),
                bounds=(),
                openings=b"".join(openings),
                signed_below=0,
                key=b"",
            )
        )
        self._faults.extend(findings.faults)
        if findings.first_prev != self.tip:
            self._faults.add(3, "it does not follow the ledger's last entry: another continuation (a fork)", first.seq)
        if first.ms < self._ms:
            self._faults.add(6, f"its time is {self._ms - first.ms} ms before the entry before it", first.seq)
        self._judge_citations(entries, findings)
        for seq, named in findings.erasures:
            self._judge_erasure(seq, named)

    def _judge_citations(self, entries: Sequence[TailEntry], findings: Findings) -> None:
        """9: versions are new, cited versions are earlier, documents are at hand."""
        for policy in findings.policies:
            used = self._versions.setdefault(policy.version, policy.seq)
            if used != policy.seq:
                self._faults.add(9, f"version {policy.version} was used at entry {used} already", policy.seq)
            document = entries[policy.seq - findings.first].document
            if document is not None and sha256(document).digest() != policy.document:
                self._faults.add(9, "the document does not match the hash in its entry", policy.seq)
            elif document is not None:
                self._documents.add(policy.document)
                for named in documents_named_in(document):
                    # Events may cite it from then on, and the log could not be signed any further.
                    if bytes.fromhex(named) not in self._documents:
                        self._faults.add(9, f"document {named}, which the policy names, is missing", policy.seq)
            elif policy.document not in self._documents:
                self._faults.add(9, f"document {policy.document.hex()} is missing", policy.seq)
        for version, seqs in findings.versions.items():
            published = self._versions.get(version)
            for seq in seqs:
                if published is None or published >= seq:
                    self._faults.add(9, f"policyVersion {version} names no earlier entry", seq)
        for digest, seq in findings.shown.items():
            if bytes.fromhex(digest) not in self._documents:
                self._faults.add(9, f"document {digest} is missing", seq)

    def _judge_erasure(self, seq: int, named: Sequence[int]) -> None:
        """11, as far as the tail tells."""
        for target in named:
            if target >= seq:
                self._faults.add(11, f"it names entry {target}, which is not below its own", seq)
            elif target in self._not_events:
                self._faults.add(11, f"it names entry {target}, which is no event", seq)
            elif self.erased.setdefault(target, seq) != seq:
                self._faults.add(11, f"it names entry {target}, which was erased before", seq)
