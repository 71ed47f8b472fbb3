"""What a monitor keeps on disk: the last checkpoint it verified, what it found, what it has still to tell; evidence.

One directory a log, readable by its owner alone and held by one monitor at a time. The state is one file, replaced
whole, so that a crash leaves the old one or the new one. Nothing is judged here.
"""

from __future__ import annotations

import fcntl
import os
from hashlib import sha256
from pathlib import Path

import msgspec
from msgspec import Struct, field

from ledger.config import MONITOR_EVIDENCE_MAX, MONITOR_FAULTS_MAX, MONITOR_HEADS_KEPT, MONITOR_NOTICES_MAX
from ledger.core.encoding import encode_time
from ledger.core.errors import ConfigInvalid, Malformed
from ledger.core.merkle import EMPTY_ROOT, HASH_BYTES, Frontier
from ledger.core.note import Checkpoint, parse_checkpoint
from ledger.core.watch import Finding, Head, Kind
from ledger.durable import replace
from ledger.terminal import plain

STATE = "state.json"
LOCK = "lock"
MEMORY = "entries.sqlite"
EVIDENCE = "evidence"
FORMAT = 1


class Seen(Struct, rename="camel"):
    """A head on the way, and when it was seen (unix seconds)."""

    size: int
    root: bytes
    at: int


class Place(Struct, rename="camel"):
    """A URL: the greatest size it served, and when it last gave an answer that could be judged (unix seconds)."""

    size: int = 0
    answered_at: int = 0


class FoundFault(Struct, rename="camel", omit_defaults=True):
    """A fault as it was found; `evidence` names its directory."""

    kind: str
    detail: str
    url: str
    at: int
    rule: int = 0
    seq: int | None = None
    evidence: str = ""

    @property
    def key(self) -> str:
        """One fault of a kind a place and entry, however its details change while it lasts."""
        return f"{self.kind} {self.url} {self.seq}"


class Notice(Struct, rename="camel", omit_defaults=True):
    """What the webhook has to be told. `id` stays the same however often it is sent."""

    id: str
    event: str
    kind: str
    detail: str
    origin: str
    at: str
    url: str = ""
    rule: int = 0
    seq: int | None = None
    size: int = 0
    evidence: str = ""


class State(Struct, rename="camel"):
    """Everything a monitor knows beside the entries themselves."""

    format: int
    origin: str
    log_id: bytes = b""
    checkpoint: bytes = b""
    edge: list[bytes] = field(default_factory=list)
    size: int = 0
    anchored: bool = False
    """The key given out of band has signed a checkpoint of this log."""
    followed: bool = False
    """Entries could be read at one time."""
    changed_at: int = 0
    heads: list[Seen] = field(default_factory=list)
    places: dict[str, Place] = field(default_factory=dict)
    witnesses: dict[str, int] = field(default_factory=dict)
    alarms: dict[str, int] = field(default_factory=dict)
    raised: list[str] = field(default_factory=list)
    faults: list[FoundFault] = field(default_factory=list)
    acknowledged: list[FoundFault] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)
    told: int = 0
    """Notices so far: numbers their ids."""
    notices_lost: int = 0


_decoder = msgspec.json.Decoder(State)


class Record:
    """The directory of one log. Close it, or use it in a `with`; `ConfigInvalid` if another monitor has it."""

    def __init__(self, base: Path, origin: str) -> None:
        name = origin.rpartition("/")[2] + "-" + sha256(origin.encode()).hexdigest()[:8]
        self.directory = base / name
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = os.open(self.directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.state = self._load(origin)
        except BlockingIOError as error:
            os.close(self._lock)
            raise ConfigInvalid(f"another monitor keeps its state in {self.directory}; name another --state") from error
        except BaseException:
            os.close(self._lock)
            raise
        self._written = b""

    def close(self) -> None:
        os.close(self._lock)

    def __enter__(self) -> Record:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def memory(self) -> Path:
        """Where the follower remembers the entries."""
        return self.directory / MEMORY

    def _load(self, origin: str) -> State:
        path = self.directory / STATE
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return State(FORMAT, origin)
        advice = "; move it away only if you know why: what it remembers is what convicts a log that was rewritten"
        try:
            state = _decoder.decode(data)
            if state.format != FORMAT or state.origin != origin:
                raise Malformed("another format, or another log")
            Frontier(state.size, state.edge)
            if any(len(edge) != HASH_BYTES for edge in state.edge):
                raise Malformed("a hash has 32 bytes")
            if (state.size > 0) != bool(state.checkpoint):
                raise Malformed("a checkpoint without its size")
            if state.checkpoint and parse_checkpoint(state.checkpoint).size != state.size:
                raise Malformed("a checkpoint of another size")
        except (msgspec.DecodeError, Malformed, ValueError) as error:
            raise ConfigInvalid(f"{path} is damaged ({error}){advice}") from error
        return state

    def save(self) -> None:
        """Replace the state, durably; nothing is written if nothing has changed."""
        data = msgspec.json.format(msgspec.json.encode(self.state), indent=1)
        if data == self._written:
            return
        replace(self.directory / STATE, data)
        self._written = data

    # What is known of the log

    @property
    def head(self) -> Head:
        return Head(self.state.size, self.frontier().root() if self.state.size else EMPTY_ROOT)

    def frontier(self) -> Frontier:
        return Frontier(self.state.size, self.state.edge)

    @property
    def checkpoint(self) -> Checkpoint | None:
        """The one verified last."""
        return parse_checkpoint(self.state.checkpoint) if self.state.checkpoint else None

    def advance(self, note: bytes, frontier: Frontier, now: int) -> None:
        """A new head, verified."""
        state = self.state
        state.checkpoint, state.size, state.edge = note, frontier.size, list(frontier.edge)
        state.heads = [*state.heads[-MONITOR_HEADS_KEPT + 1 :], Seen(frontier.size, frontier.root(), now)]

    def root_at(self, size: int) -> bytes | None:
        """The root at a size where a head was verified, if it is still remembered."""
        return next((head.root for head in self.state.heads if head.size == size), None)

    # What was found

    def is_known(self, fault: FoundFault) -> bool:
        return any(known.key == fault.key for known in self.state.faults)

    def add_fault(self, finding: Finding, url: str, now: int) -> FoundFault | None:
        """Keep a fault with its evidence; None if it is known."""
        fault = FoundFault(finding.kind, plain(finding.detail), url, now, finding.rule, finding.seq)
        if self.is_known(fault):
            return None
        # Of each kind apart: a server that is full of cheap faults must not hide that it forks.
        if sum(known.kind == fault.kind for known in self.state.faults) >= MONITOR_FAULTS_MAX:
            return None
        fault.evidence = self._keep_evidence(fault, finding)
        self.state.faults.append(fault)
        return fault

    def _keep_evidence(self, fault: FoundFault, finding: Finding) -> str:
        stamp = encode_time(fault.at * 1000).replace(":", "").replace("-", "")[:15]
        name = f"{stamp}-{fault.kind}-{sha256(fault.key.encode()).hexdigest()[:8]}"
        kept = self.directory / EVIDENCE
        kept.mkdir(mode=0o700, exist_ok=True)
        if sum(1 for _ in kept.glob(f"*-{fault.kind}-*")) >= MONITOR_EVIDENCE_MAX:
            return ""
        (kept / name).mkdir(mode=0o700, exist_ok=True)
        for number, checkpoint in enumerate(finding.notes, 1):
            replace(kept / name / f"{number}-size-{checkpoint.size}.checkpoint", checkpoint.encode())
        for tile, hashes in finding.tiles:
            (kept / name / tile.path).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            replace(kept / name / tile.path, hashes)
        replace(kept / name / "finding.json", msgspec.json.format(msgspec.json.encode(fault), indent=1))
        return f"{EVIDENCE}/{name}"

    def acknowledge(self) -> int:
        """A person has seen the faults: how many. Their evidence stays."""
        state, count = self.state, len(self.state.faults)
        state.acknowledged = [*state.acknowledged, *state.faults][-MONITOR_FAULTS_MAX * len(Kind) :]
        state.faults = []
        self.save()
        return count

    def tell(self, notice: Notice) -> None:
        """Queue it for the webhook. Where too much waits, the oldest that is no fault goes, and is counted."""
        waiting = self.state.notices
        waiting.append(notice)
        if len(waiting) > MONITOR_NOTICES_MAX:
            oldest = next((i for i, old in enumerate(waiting) if old.event != "fault"), 0)
            del waiting[oldest]
            self.state.notices_lost += 1
