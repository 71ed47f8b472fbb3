"""The call of the erasing transaction: an erasure entry with all that outlives the events it names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple
from uuid import UUID

ERASE = """
select outcome, seq, ms, size, prev, tip
  from ledger.append_erasure($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20,
                             $21, $22, $23, $24, $25, $26, $27, $28, $29, $30, $31, $32, $33)
"""


class MarkRow(NamedTuple):
    """A mark to be set; `job` is the order that it belongs to, if any."""

    subject: bytes
    purpose: str
    set_ms: int
    until_ms: int
    seq: int
    job: UUID | None


class HeldRow(NamedTuple):
    """An opening that is held as proof, sealed under a key of its own; who made the event, and under whom it was filed
    (keyed hashes)."""

    seq: int
    sealed: bytes
    until_ms: int
    job: UUID
    maker: bytes
    filed: bytes


class KeptRow(NamedTuple):
    """An event that stays; `purposes` are joined by spaces."""

    seq: int
    until_ms: int
    purposes: str
    job: UUID


class JobRow(NamedTuple):
    """How many events go for an order, and whether that was the last of it."""

    job: UUID
    events: int
    done: bool


class Effects(NamedTuple):
    """What goes with an erasure entry. It is appended only if nothing was recorded under `subjects` at `upto` or after,
    every event that it names is still there, and none of `whose` (who made them, and under whom they are filed) is
    restricted. `keys` are the keyed ids of the events."""

    subjects: Sequence[bytes] = ()
    upto: int = 0
    whose: Sequence[bytes] = ()
    keys: Sequence[bytes] = ()
    marks: Sequence[MarkRow] = ()
    held: Sequence[HeldRow] = ()
    kept: Sequence[KeptRow] = ()
    jobs: Sequence[JobRow] = ()
    block_ms: int = 0


def arguments(effects: Effects) -> tuple[Any, ...]:
    """What `ledger.append_erasure` takes of them, in its order."""
    return (
        effects.subjects,
        effects.upto,
        effects.whose,
        effects.keys,
        *columns(MarkRow, effects.marks),
        *columns(HeldRow, effects.held),
        *columns(KeptRow, effects.kept),
        *columns(JobRow, effects.jobs),
        effects.block_ms,
    )


def columns(kind: Any, rows: Sequence[tuple[Any, ...]]) -> list[list[Any]]:
    """Rows of one kind, column by column."""
    return [list(column) for column in zip(*rows, strict=True)] if rows else [[] for _ in kind._fields]
