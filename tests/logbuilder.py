"""Builds small logs in memory, valid unless told otherwise, and writes them as bundles.

Every part of an entry can be overridden when it is appended; what follows is chained and signed upon it, so that a
bundle can break one rule and no other. Nothing here uses the project's exporter: the two are checked on each other.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from ledger.core import ed25519, entry, keys, merkle, note, tile
from ledger.core.encoding import encode_json

ORIGIN = "ledger.example/weco.nexaxt.com"
SITE = "weco.nexaxt.com"
START_MS = 1_795_230_000_000
DOCUMENT = b'{"policy":"the exact bytes of a published policy document"}'


def key(name: str) -> ed25519.SigningKey:
    """A key by its name, always the same."""
    return ed25519.SigningKey(sha256(name.encode()).digest())


def witness(name: str = "witness.example/w1") -> note.VerifierKey:
    return note.VerifierKey(name, note.TYPE_COSIGNATURE, key(name).public)


class LogBuilder:
    """A log that grows by one second an entry. `entries` are leaf bytes; `openings` seq -> (salt, payload)."""

    def __init__(self, origin: str = ORIGIN, *, genesis: bool = True) -> None:
        self.origin = origin
        self.site = origin.rpartition("/")[2]
        self.root, self.ingest, self.log = key("root"), key("ingest"), key("log")
        self.entries: list[bytes] = []
        self.leaves: list[bytes] = []
        self.openings: dict[int, tuple[bytes, bytes]] = {}
        self.documents: dict[str, bytes] = {}
        self.now_ms = START_MS
        if genesis:
            self.append(entry.Kind.GENESIS, self.genesis_public())

    @property
    def log_id(self) -> bytes:
        return self.leaves[0]

    @property
    def log_vkey(self) -> note.VerifierKey:
        return self.vkey(self.log)

    def vkey(self, signer: ed25519.SigningKey) -> note.VerifierKey:
        return note.VerifierKey(self.origin, note.TYPE_ED25519, signer.public)

    def genesis_public(self) -> bytes:
        return keys.encode_genesis(self.log_vkey, self.ingest.public, self.root.public)

    def append(
        self,
        kind: int,
        public: bytes = b"",
        *,
        commit: bytes = entry.ZEROS,
        signer: ed25519.SigningKey | None = None,
        log: bytes | None = None,
        **overrides: Any,
    ) -> int:
        """Append an entry, and give its index. `log` is L of the core; `overrides` are fields of `entry.Entry`."""
        seq = len(self.entries)
        self.now_ms += 1000
        if signer is None:
            signer = self.root if kind in (entry.Kind.GENESIS, entry.Kind.KEY) else self.ingest
        if log is None:
            log = self.log_id if seq else entry.origin_hash(self.origin)
        core = entry.core_bytes(log, kind, commit, public)
        fields: dict[str, Any] = {
            "seq": seq,
            "ms": self.now_ms,
            "prev": self.leaves[-1] if seq else entry.ZEROS,
            "kind": kind,
            "commit": commit,
            "signer": entry.key_hash(signer.public),
            "signature": signer.sign(core),
            "public": public,
        }
        return self.append_bytes(entry.encode(entry.Entry(**(fields | overrides))))

    def append_bytes(self, data: bytes) -> int:
        self.entries.append(data)
        self.leaves.append(merkle.leaf_hash(data))
        return len(self.entries) - 1

    def salt(self) -> bytes:
        return sha256(f"salt {len(self.entries)}".encode()).digest()

    def append_opened(self, kind: int, payload: bytes, public: bytes = b"", **overrides: Any) -> int:
        """An entry with an opening."""
        salt = overrides.pop("salt", self.salt())
        seq = self.append(kind, public, **({"commit": entry.commitment(salt, payload)} | overrides))
        self.openings[seq] = (salt, payload)
        return seq

    def payload(self, **members: Any) -> bytes:
        """An event's payload; a member given as None is left out."""
        seq = len(self.entries)
        event = {
            "action": "customize",
            "decisions": {"analytics": "granted", "marketing": "denied"},
            "id": f"01980000-0000-7000-8000-{seq:012x}",
            "occurredAt": "2026-11-21T03:00:00.000Z",
            "policyVersion": "1.0",
            "site": self.site,
            "type": "consent.given",
            "visitor": f"v-4f1d0c6a9b2e4d7f8a3c5e6b{seq:08x}",
        } | members
        return encode_json({name: value for name, value in event.items() if value is not None})

    def event(self, **members: Any) -> int:
        return self.append_opened(entry.Kind.EVENT, self.payload(**members))

    def events(self, count: int) -> None:
        for _ in range(count):
            self.event()

    def policy(self, version: str = "1.0", document: bytes = DOCUMENT, **overrides: Any) -> int:
        digest = self.document(document)
        return self.append(entry.Kind.POLICY, digest + version.encode(), **overrides)

    def document(self, document: bytes) -> bytes:
        digest = sha256(document).digest()
        self.documents[digest.hex()] = document
        return digest

    def record(self, **members: Any) -> bytes:
        """An erasure's payload."""
        return encode_json(
            {
                "evidence": b64encode(sha256(b"evidence").digest()).decode(),
                "instruction": "INS-2026-014",
                "reason": "subject_request",
                "requestedAt": "2026-11-21T03:00:00.000Z",
                "site": self.site,
            }
            | members
        )

    def erase(self, *seqs: int, **overrides: Any) -> int:
        """An erasure entry; the openings go."""
        for seq in seqs:
            self.openings.pop(seq, None)
        public = b"".join(seq.to_bytes(8, "big") for seq in seqs)
        return self.append_opened(entry.Kind.ERASURE, self.record(), public, **overrides)

    def key_entry(self, public: bytes, **overrides: Any) -> int:
        return self.append(entry.Kind.KEY, public, **overrides)

    def introduce_ingest(self, new: ed25519.SigningKey, **overrides: Any) -> int:
        return self.key_entry(keys.introduce_ingest(self.log_id, new), **overrides)

    # Checkpoints and bundles

    def root_hash(self, size: int) -> bytes:
        return merkle.root_of(self.leaves[:size])

    def checkpoint(
        self,
        size: int | None = None,
        signers: Sequence[ed25519.SigningKey] | None = None,
        cosigned: Iterable[tuple[str, int]] = (),
        root: bytes | None = None,
    ) -> note.Checkpoint:
        """A checkpoint by the log key, or by `signers`; `cosigned` has witnesses' names with unix seconds."""
        size = len(self.entries) if size is None else size
        made = note.Checkpoint(self.origin, size, self.root_hash(size) if root is None else root)
        for signer in (self.log,) if signers is None else signers:
            made = note.sign_checkpoint(made, self.vkey(signer), signer)
        return self.cosign(made, cosigned)

    @staticmethod
    def cosign(made: note.Checkpoint, cosigned: Iterable[tuple[str, int]]) -> note.Checkpoint:
        for name, seconds in cosigned:
            value = seconds.to_bytes(8, "big") + key(name).sign(note.cosignature_message(made.body, seconds))
            signature = note.Signature(name, witness(name).key_id, value)
            made = made._replace(signatures=(*made.signatures, signature))
        return made

    def lines(self) -> list[bytes]:
        """payloads.ndjson, as another tool might write it."""
        return [
            json.dumps({"seq": seq, "salt": b64encode(salt).decode(), "payload": b64encode(payload).decode()}).encode()
            for seq, (salt, payload) in sorted(self.openings.items())
        ]

    def write(
        self,
        directory: Path,
        checkpoint: note.Checkpoint | bytes | None = None,
        kept: Iterable[note.Checkpoint] = (),
        lines: list[bytes] | None = None,
    ) -> Path:
        """Write a bundle; hash tiles come from a plain in-memory tree."""
        checkpoint = self.checkpoint() if checkpoint is None else checkpoint
        put(directory, "checkpoint", checkpoint if isinstance(checkpoint, bytes) else checkpoint.encode())
        for number, made in enumerate(kept):
            put(directory, f"checkpoints/{number:06d}", made.encode())
        for digest, document in self.documents.items():
            put(directory, f"documents/{digest}", document)
        put(directory, "payloads.ndjson", b"".join(line + b"\n" for line in (self.lines() if lines is None else lines)))
        subtree = merkle.subtrees_of(self.leaves)
        for made_tile in tile.tiles_of(len(self.entries)):
            start = made_tile.n * tile.TILE_WIDTH
            items = range(start, start + made_tile.width)
            if made_tile.level == tile.ENTRIES:
                data = tile.encode_bundle([self.entries[i] for i in items])
            else:
                data = tile.encode_hashes([subtree(made_tile.level * tile.TILE_HEIGHT, i) for i in items])
            put(directory, made_tile.path, data)
        return directory


def put(directory: Path, path: str, data: bytes) -> None:
    full = directory / path
    full.parent.mkdir(parents=True, exist_ok=True)
    full.write_bytes(data)


def full_log(events: int = 20) -> LogBuilder:
    """A log with every kind of entry: two ingest keys, two log keys, an erasure, and so many events."""
    log = LogBuilder()
    log.policy()
    notice = log.document(b"the notice as it was shown")
    first = log.event(shown=notice.hex())
    second_ingest = key("ingest 2")
    log.introduce_ingest(second_ingest)
    second = log.event()
    log.key_entry(keys.retire_ingest(log.ingest.public))
    log.ingest = second_ingest
    log.key_entry(keys.introduce_log(log.vkey(key("log 2"))))
    log.erase(first, second)
    log.policy("1.1", b"another document")
    log.events(events)
    return log
