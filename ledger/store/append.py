"""The calls of the append functions, and the bytes that come of them.

A draft is an entry without position and time. Deciding what to do about a failure is the sequencer's part.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple

import asyncpg

from ledger.core.entry import Entry, Kind, encode
from ledger.core.merkle import leaf_hash
from ledger.store.erase import ERASE, Effects
from ledger.store.erase import arguments as erasing


class Outcome(IntEnum):
    """What became of a draft, as `ledger.append_events` says it."""

    APPENDED = 0
    SAME_COMMITMENT = 1
    SAME_CONTENT = 2
    OTHER_CONTENT = 3
    ERASED = 4
    OVERTAKEN = 5
    """Not appended, nor known: said of a lapse or an erasure, where something was recorded or erased since it was
    found."""
    FORGOTTEN = 6
    """Not appended: whoever it is about was erased, or is about to be."""


class EventDraft(NamedTuple):
    """An event ready to be appended. `key`, `visitor` and `content` are keyed hashes of 16 bytes (ledger/secrets).

    `visitor` is the subject under which it lies; `actor` the other one whom it is about: the visitor where that is an
    account, the account of a link. `sealed` is salt and payload as the database gets them; in clear they are here for
    the receipt alone.
    """

    key: bytes
    commit: bytes
    signer: bytes
    signature: bytes
    sealed: bytes
    visitor: bytes
    content: bytes
    salt: bytes
    payload: bytes
    actor: bytes | None = None


class ControlDraft(NamedTuple):
    """Any other entry. `sealed` is set for an erasure's record alone: its opening, under the register key. `effects` is
    what an erasure does beside."""

    kind: Kind
    commit: bytes
    signer: bytes
    signature: bytes
    public: bytes
    sealed: bytes | None = None
    effects: Effects | None = None


class Head(NamedTuple):
    """The greatest size of a log that this process has seen, with the last leaf hash; (0, b"") before the first."""

    size: int
    leaf: bytes


class Appended(NamedTuple):
    """`entry` holds the bytes of a fresh entry; for one known before they are read by `seq` (-1: it has no entry)."""

    outcome: Outcome
    seq: int
    ms: int
    entry: bytes | None


class TipMismatch(Exception):
    """The database chained other bytes than this process would have. Never expected; nothing may be acknowledged."""


_APPEND_EVENTS = """
select outcome, seq, ms, size, prev, tip
  from ledger.append_events($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
"""
_APPEND_LAPSES = """
select outcome, seq, ms, size, prev, tip
  from ledger.append_lapses($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
"""
_APPEND_ONE = """
select outcome, seq, ms, size, prev, tip
  from ledger.append_one($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
"""


async def append_events(
    connection: asyncpg.Connection,
    site_id: int,
    process_ms: int,
    head: Head,
    signer: bytes,
    drafts: Sequence[EventDraft],
    timeout_seconds: float,
) -> tuple[list[Appended], Head]:
    """Append drafts with distinct keys, all by the key with the hash `signer`: what became of each, and the new head.

    Without drafts nothing is written, but every guard is passed, or raises.
    """
    arguments = (site_id, process_ms, head.size, head.leaf, signer, *_columns(drafts))
    return _events_of(await connection.fetchrow(_APPEND_EVENTS, *arguments, timeout=timeout_seconds), drafts)


class Condition(NamedTuple):
    """Under which a lapse is appended: nothing was recorded under its subject from the seq `upto` on, and every one of
    `grants` (seqs) is still there."""

    upto: int
    grants: tuple[int, ...]


async def append_lapses(
    connection: asyncpg.Connection,
    site_id: int,
    process_ms: int,
    head: Head,
    signer: bytes,
    drafts: Sequence[EventDraft],
    timeout_seconds: float,
    conditions: Sequence[Condition],
) -> tuple[list[Appended], Head]:
    """`append_events`, each draft under its condition: it is `OVERTAKEN` where that does not hold."""
    grants = [(seq, n) for n, condition in enumerate(conditions, 1) for seq in condition.grants]
    arguments = (site_id, process_ms, head.size, head.leaf, signer, *_columns(drafts))
    row = await connection.fetchrow(
        _APPEND_LAPSES,
        *arguments,
        [condition.upto for condition in conditions],
        [seq for seq, _ in grants],
        [n for _, n in grants],
        timeout=timeout_seconds,
    )
    return _events_of(row, drafts)


def _columns(drafts: Sequence[EventDraft]) -> list[Sequence[bytes] | None]:
    """What the functions take of drafts, column by column; they are all by one signer, who is named once."""
    columns = zip(*drafts, strict=True) if drafts else ([] for _ in EventDraft._fields)
    keys, commits, _, signatures, sealed, visitors, contents, _, _, actors = columns
    about_others = any(actor is not None for actor in actors)
    return [keys, commits, signatures, sealed, visitors, contents, actors if about_others else None]


def _events_of(row: asyncpg.Record, drafts: Sequence[EventDraft]) -> tuple[list[Appended], Head]:
    """What the answer says of each draft. `TipMismatch` if other bytes were chained."""
    leaf, results = row["prev"], []
    for draft, outcome, seq in zip(drafts, row["outcome"], row["seq"], strict=True):
        entry = None
        if outcome == Outcome.APPENDED:
            entry = encode(Entry(seq, row["ms"], leaf, Kind.EVENT, draft.commit, draft.signer, draft.signature, b""))
            leaf = leaf_hash(entry)
        results.append(Appended(Outcome(outcome), -1 if seq is None else seq, row["ms"], entry))
    return results, _confirmed(row, leaf)


def _confirmed(row: asyncpg.Record, leaf: bytes) -> Head:
    """The new head, if the database chained what was recomputed here."""
    if leaf != row["tip"]:
        raise TipMismatch(f"the database's tip at size {row['size']} is not the one recomputed here")
    return Head(row["size"], leaf)


async def append_one(
    connection: asyncpg.Connection,
    site_id: int,
    process_ms: int,
    head: Head,
    draft: ControlDraft,
    timeout_seconds: float,
) -> tuple[Appended, Head]:
    """Append one entry of another kind than event; known by its core, it is not appended again."""
    what = (draft.commit, draft.signature, draft.public, draft.sealed)
    if draft.effects is None:
        query, arguments = _APPEND_ONE, (draft.signer, int(draft.kind), *what)
    else:
        query, arguments = ERASE, (draft.signer, *what, *erasing(draft.effects))
    row = await connection.fetchrow(
        query, site_id, process_ms, head.size, head.leaf, *arguments, timeout=timeout_seconds
    )
    leaf, entry = row["prev"], None
    if row["outcome"] == Outcome.APPENDED:
        entry = encode(
            Entry(row["seq"], row["ms"], leaf, draft.kind, draft.commit, draft.signer, draft.signature, draft.public)
        )
        leaf = leaf_hash(entry)
    seq = -1 if row["seq"] is None else row["seq"]
    return Appended(Outcome(row["outcome"]), seq, row["ms"], entry), _confirmed(row, leaf)
