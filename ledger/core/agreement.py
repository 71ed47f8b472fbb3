"""Whether the next checkpoint may be signed, by what every place that knows the last one says.

Each place is asked on its own and says one of the things below; nothing is fetched here, and nothing is signed. The
rule is that two histories can never be signed: what is ahead or disagrees stops the signing, and so does a place that
answers but has lost what it knew. What cannot be reached is an alarm and no more, while the memory or the anchor of
this machine agrees; a log of more than its genesis that neither of them knows waits until everybody answers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ledger.core.errors import BadSignature, Malformed
from ledger.core.keys import KeySet
from ledger.core.note import Checkpoint, parse_checkpoint

MEMORY = "memory"
ANCHOR = "anchor"
DATABASE = "database"
NATS = "nats"


class Agrees(NamedTuple):
    """It knows a checkpoint of this size, signed by a key of this log, and the log continues it."""

    size: int


class Ahead(NamedTuple):
    """It knows a log of `size` entries, which is more than there are."""

    size: int


class Disagrees(NamedTuple):
    """What it knows is not of this log."""

    detail: str


class Nothing(NamedTuple):
    """It answered and knows nothing. `lost`: it is known to have had a record."""

    lost: bool


class Unreachable(NamedTuple):
    """It gave no answer; `detail` is a short word."""

    detail: str


Said = Agrees | Ahead | Disagrees | Nothing | Unreachable


class Go(NamedTuple):
    """Sign; `alarms` has the places that could not be asked."""

    alarms: tuple[str, ...]
    known: int
    """The greatest size that anybody knows; 0 before the first checkpoint."""


class Refuse(NamedTuple):
    """Do not sign. `reason` is a stable word, `detail` tells a person what was found."""

    reason: str
    detail: str


def decide(said: Mapping[str, Said], size: int) -> Go | Refuse:
    """What to do with a log of `size` entries. `said` has the places by name; those not set up are not in it."""
    known = max((each.size for each in said.values() if isinstance(each, Agrees)), default=0)
    for name, each in said.items():
        if isinstance(each, Ahead):
            return Refuse(
                f"{name}-ahead",
                f"{_the(name)} knows a log of {each.size} entries, here are {size}: entries were lost, "
                "or the database was put back to an older copy",
            )
    for name, each in said.items():
        if isinstance(each, Disagrees):
            return Refuse(f"{name}-disagrees", f"{_the(name)} does not agree: {each.detail}")
    for name, each in said.items():
        # The first checkpoint is of size 1. Until there is another, a record that is missing was not made yet: a
        # process may have ended between the writes of the first ones.
        if name != MEMORY and isinstance(each, Nothing) and known > 1 and each.lost:
            return Refuse(
                f"{name}-lost",
                f"{_the(name)} has lost its record of the last checkpoint; others know one of size {known}. "
                f"Find out why, then: consent-ledger checkpoint restore-record SITE --to {name}",
            )
    if known > 1 and not any(isinstance(said.get(name), Agrees) for name in (MEMORY, ANCHOR)):
        return Refuse("no-anchor", "neither the memory nor the anchor of this machine can tell what was signed last")
    alarms = tuple(name for name, each in said.items() if isinstance(each, Unreachable))
    if alarms and size > 1 and not any(isinstance(said.get(name), Agrees) for name in (MEMORY, ANCHOR)):
        # A log as it was before its first checkpoint, or an older copy of one that was signed long ago.
        return Refuse(
            "not-all-asked",
            f"nothing on this machine tells whether this log of {size} entries was signed before, and not every place "
            f"could be asked: {', '.join(alarms)}. Bring it back",
        )
    return Go(alarms, known)


def _the(name: str) -> str:
    names = {MEMORY: "the checkpointer's memory", ANCHOR: "the anchor", DATABASE: "the database", NATS: "NATS"}
    return names.get(name, name)


def read_record(data: bytes, origin: str, keys: KeySet) -> Checkpoint | Disagrees:
    """A record of the last checkpoint, if a key of this log signed it."""
    try:
        checkpoint = parse_checkpoint(data)
    except Malformed as error:
        return Disagrees(f"its record is no checkpoint ({error})")
    if checkpoint.origin != origin:
        return Disagrees(f"its record is of another log, {checkpoint.origin}")
    try:
        signed = [key for key in keys.ever_log_keys if checkpoint.signed_by(key)]
    except BadSignature:
        return Disagrees(f"its record of size {checkpoint.size} has a false signature")
    if not signed:
        return Disagrees(f"its record of size {checkpoint.size} is not signed by a key of this log")
    return checkpoint


def compare(checkpoint: Checkpoint, size: int, root: bytes | None) -> Said:
    """A record beside a log of `size` entries, whose root at the record's size is `root` (None where that is more)."""
    if checkpoint.size > size or root is None:
        return Ahead(checkpoint.size)
    if root != checkpoint.root:
        return Disagrees(f"at the size {checkpoint.size} it knows another root: there are two histories of this log")
    return Agrees(checkpoint.size)


def stream_said(last_seq: int, size: int, published: Sequence[tuple[bytes | None, bytes | None]]) -> Refuse | None:
    """The site's stream, whose messages are entries that were acknowledged: `published` has pairs of the entry in a
    message (None: there is none) and that of the log at the same place."""
    if last_seq >= size:
        return Refuse(
            "stream-ahead",
            f"the stream holds entries up to {last_seq}, the log up to {size - 1}: entries that were acknowledged are "
            "lost. Restart no server, and run: consent-ledger recover SITE --from-stream",
        )
    if any(message is not None and message != entry for message, entry in published):
        return Refuse("stream-differs", f"the stream's last message, up to {last_seq}, is not the log's entry there")
    return None
