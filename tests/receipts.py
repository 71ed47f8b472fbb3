"""Receipts with their proofs, built in memory from a `LogBuilder`; nothing here uses the project's server."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from ledger.core import entry, merkle, note, tlog_proof
from tests.logbuilder import LogBuilder

Receipt = dict[str, Any]


def b64(data: bytes) -> str:
    return b64encode(data).decode()


def utc(ms: int) -> str:
    """The one encoding of a time, by other means than the project's."""
    return datetime.fromtimestamp(ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S") + f".{ms % 1000:03d}Z"


def proof_of(log: LogBuilder, seq: int, checkpoint: note.Checkpoint) -> str:
    """The tlog-proof text of an entry under a checkpoint of the log."""
    subtree = merkle.subtrees_of(log.leaves[: checkpoint.size])
    hashes = merkle.inclusion_proof(seq, checkpoint.size, subtree)
    return tlog_proof.encode_proof(seq, hashes, checkpoint.encode()).decode()


def receipt_of(
    log: LogBuilder,
    seq: int,
    checkpoint: note.Checkpoint | None = None,
    cosigned: Iterable[tuple[str, int]] = (),
) -> Receipt:
    """The receipt of an event, with a proof under `checkpoint`, or under one of the whole log."""
    salt, payload = log.openings[seq]
    data = log.entries[seq]
    return {
        "id": f"01980000-0000-7000-8000-{seq:012x}",  # as the builder numbers its events
        "site": log.site,
        "seq": seq,
        "recordedAt": utc(entry.decode(data).ms),
        "leafHash": b64(log.leaves[seq]),
        "entry": b64(data),
        "salt": b64(salt),
        "payload": b64(payload),
        "position": f"{log.site}:{seq}",
        "proof": proof_of(log, seq, log.checkpoint(cosigned=cosigned) if checkpoint is None else checkpoint),
    }


def encode(receipt: Receipt) -> bytes:
    return json.dumps(receipt, ensure_ascii=False).encode()
