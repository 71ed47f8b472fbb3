"""A large log as a bundle, made quickly: `python -m tests.bench.generate --entries 1000000 DIR`.

Everything in it is real (signatures, salts, payloads, erasures with their records, tiles), and of the mixture that a
site's days have; only nobody was ever asked for consent. Cores know no position, so all cores of the machine sign at
once; one process chains what they made. The same seed gives the same log.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import click

from ledger.bundle import Writer
from ledger.core import entry, keys
from ledger.core.ed25519 import SigningKey
from ledger.core.encoding import encode_base64, encode_time
from ledger.core.event import ErasureRecord, Event, encode_payload
from ledger.core.note import TYPE_ED25519, Checkpoint, VerifierKey, sign_checkpoint
from ledger.core.opening import Opening
from ledger.progress import bar

SITE = "weco.nexaxt.com"
ORIGIN = f"ledger.bench/{SITE}"
START_MS = 1_767_225_600_000
STEP_MS = 40
PART_EVENTS = 2_048
EVENTS_PER_VISITOR = 3
EVENTS_PER_ERASURE = 10_000
ERASED_AT_ONCE = 4
POLICY = b'{"policy":"the exact bytes of a published policy document"}'


class Plan(NamedTuple):
    """What is to be made."""

    entries: int
    seed: int


class Made(NamedTuple):
    """What was made, and what an auditor is told of it."""

    directory: Path
    size: int
    log_vkey: str
    log_id: str


class Draft(NamedTuple):
    """An event without its place in the log."""

    commit: bytes
    signature: bytes
    salt: bytes
    payload: bytes


def signing_key(seed: int, role: str) -> SigningKey:
    return SigningKey(sha256(f"bench {seed} {role}".encode()).digest())


def log_vkey(plan: Plan) -> VerifierKey:
    return VerifierKey(ORIGIN, TYPE_ED25519, signing_key(plan.seed, "log").public)


def _event(chance: random.Random, number: int, visitors: int) -> Event:
    """One visitor's act, as the banner posts it."""
    occurred_ms = START_MS + number * STEP_MS
    visitor = sha256(f"visitor {chance.randrange(visitors)}".encode()).hexdigest()[:32]
    unique = f"{chance.getrandbits(74):019x}"
    event_id = f"{occurred_ms:012x}"
    event_id = f"{event_id[:8]}-{event_id[8:]}-7{unique[:3]}-{'89ab'[number % 4]}{unique[3:6]}-{unique[6:18]}"
    answer = chance.random()
    common = {"id": event_id, "site": SITE, "visitor": visitor, "language": chance.choice(("de", "en", "ru", "kk"))}
    times = {"occurred_at": encode_time(occurred_ms), "sent_at": encode_time(occurred_ms + chance.randrange(900))}
    if answer < 0.6:
        decisions = {
            "preferences": "granted",
            "analytics": "granted",
            "marketing": chance.choice(("granted", "denied")),
        }
        return Event(
            type="consent.given",
            decisions=decisions,  # type: ignore[arg-type]
            action="accept_all" if decisions["marketing"] == "granted" else "customize",
            policy_version="1.0",
            component="accept_all" if decisions["marketing"] == "granted" else "customize",
            region=chance.choice(("DE", "AT", "US-CA", "KZ")),
            **common,
            **times,
        )
    return Event(
        type="consent.refused" if answer < 0.9 else "consent.withdrawn",
        decisions={"preferences": "denied", "analytics": "denied", "marketing": "denied"},
        action="only_necessary" if answer < 0.9 else "withdraw",
        policy_version="1.0",
        region=chance.choice(("DE", "AT", "US-CA", "KZ")),
        gpc=answer < 0.65,
        **common,
        **times,
    )


def make_part(plan: Plan, log_id: bytes, first: int, count: int) -> list[Draft]:
    """`count` events from number `first` on; in any process."""
    chance = random.Random(f"{plan.seed} {first}")
    signer = signing_key(plan.seed, "ingest")
    visitors = max(1, plan.entries // EVENTS_PER_VISITOR)
    drafts = []
    for number in range(first, first + count):
        payload, salt = encode_payload(_event(chance, number, visitors)), chance.randbytes(32)
        commit = entry.commitment(salt, payload)
        signature = signer.sign(entry.core_bytes(log_id, entry.Kind.EVENT, commit, b""))
        drafts.append(Draft(commit, signature, salt, payload))
    return drafts


class _Log:
    """The log as it grows."""

    def __init__(self, plan: Plan, directory: Path) -> None:
        self.plan = plan
        self.writer = Writer(directory)
        self.root, self.ingest = signing_key(plan.seed, "root"), signing_key(plan.seed, "ingest")
        self.ingest_hash = entry.key_hash(self.ingest.public)
        self.tip = entry.ZEROS
        self.log_id = b""
        self.living: list[int] = []
        self.erased: set[int] = set()
        self.chance = random.Random(f"{plan.seed} erasures")

    @property
    def size(self) -> int:
        return self.writer.size

    def append(self, kind: int, commit: bytes, signer: bytes, signature: bytes, public: bytes = b"") -> None:
        seq = self.size
        made = entry.Entry(seq, START_MS + seq * STEP_MS, self.tip, kind, commit, signer, signature, public)
        self.tip = self.writer.entry(entry.encode(made))

    def begin(self) -> None:
        """Genesis and the first policy."""
        public = keys.encode_genesis(log_vkey(self.plan), self.ingest.public, self.root.public)
        core = entry.core_bytes(entry.origin_hash(ORIGIN), entry.Kind.GENESIS, entry.ZEROS, public)
        self.append(entry.Kind.GENESIS, entry.ZEROS, entry.key_hash(self.root.public), self.root.sign(core), public)
        self.log_id = self.tip
        digest = sha256(POLICY).digest()
        self.writer.document(digest, POLICY)
        self.control(entry.Kind.POLICY, entry.ZEROS, digest + b"1.0")

    def control(self, kind: entry.Kind, commit: bytes, public: bytes) -> None:
        core = entry.core_bytes(self.log_id, kind, commit, public)
        self.append(kind, commit, self.ingest_hash, self.ingest.sign(core), public)

    def event(self, draft: Draft) -> None:
        """One more event; its opening is written unless it is to be erased later on."""
        seq = self.size
        self.append(entry.Kind.EVENT, draft.commit, self.ingest_hash, draft.signature)
        if self.chance.random() < ERASED_AT_ONCE / EVENTS_PER_ERASURE:
            self.living.append(seq)
        else:
            self.writer.opening(Opening(seq, draft.salt, draft.payload))
        if len(self.living) == ERASED_AT_ONCE and self.size < self.plan.entries:
            self.erase()

    def erase(self) -> None:
        record = ErasureRecord(
            site=SITE,
            reason="subject_request",
            requested_at=encode_time(START_MS + self.size * STEP_MS),
            evidence=encode_base64(self.chance.randbytes(32)),
            instruction=f"INS-{self.size}",
        )
        seq, payload, salt = self.size, encode_payload(record), self.chance.randbytes(32)
        self.control(entry.Kind.ERASURE, entry.commitment(salt, payload), entry.encode_seqs(self.living))
        self.writer.opening(Opening(seq, salt, payload))
        self.living.clear()


def generate(plan: Plan, directory: Path, processes: int | None = None, progress: object = None) -> Made:
    """Write the bundle; `directory` must not be there."""
    log = _Log(plan, directory)
    log.begin()
    try:
        with ProcessPoolExecutor(processes) as pool:
            for part in _parts(pool, plan, log.log_id, plan.entries):
                for draft in part:
                    if log.size < plan.entries - bool(log.living):
                        log.event(draft)
                if callable(progress):
                    progress(log.size, plan.entries)
        if log.living:
            log.erase()
        checkpoint = Checkpoint(ORIGIN, log.size, log.writer.root())
        signed = sign_checkpoint(checkpoint, log_vkey(plan), signing_key(plan.seed, "log"))
        log.writer.finish(signed.encode(), set())
    except BaseException:
        log.writer.abandon()
        raise
    return Made(directory, log.size, str(log_vkey(plan)), log.log_id.hex())


def _parts(pool: ProcessPoolExecutor, plan: Plan, log_id: bytes, events: int) -> Iterator[list[Draft]]:
    """In order, a few at a time: a million drafts at once would fill the memory."""
    waiting = []
    for first in range(0, events, PART_EVENTS):
        waiting.append(pool.submit(make_part, plan, log_id, first, min(PART_EVENTS, events - first)))
        if len(waiting) > 8:
            yield waiting.pop(0).result()
    for one in waiting:
        yield one.result()


@click.command()
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("--entries", type=click.IntRange(10, 100_000_000), default=1_000_000, show_default=True)
@click.option("--seed", type=int, default=1, show_default=True)
@click.option("--processes", type=click.IntRange(1, 256))
def main(directory: Path, entries: int, seed: int, processes: int | None) -> None:
    """Write a log of so many entries into DIRECTORY, as a bundle that `verify` finds sound."""
    began = time.monotonic()
    with bar("Making", "entries") as progress:
        made = generate(Plan(entries, seed), directory, processes, progress)
    click.echo(f"{made.size:,} entries in {time.monotonic() - began:.0f} s")
    click.echo(f"consent-ledger verify {directory} --log-vkey {made.log_vkey} --log-id {made.log_id}")


if __name__ == "__main__":
    main()
