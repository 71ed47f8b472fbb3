"""The erasing transaction: openings go, the erasure entry comes, and what outlives it is written, all or nothing.

What is to go, and what outlives it, is decided before (core/erasing, core/retention); that the act was recorded too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ledger.core.question import Mark
from ledger.erasing.messages import Reason
from ledger.site import Site


class MarkOf(NamedTuple):
    """A mark, and the subject (keyed hash) under which it is set."""

    subject: bytes
    mark: Mark


class Unchanged(NamedTuple):
    """The condition of an erasure: under none of `subjects` anything was recorded at `size` or after."""

    subjects: Sequence[bytes]
    size: int


async def erase_seqs(
    site: Site,
    seqs: Sequence[int],
    *,
    reason: Reason,
    evidence: str,
    act: str,
    requested_ms: int,
    marks: Sequence[MarkOf] = (),
    unchanged: Unchanged | None = None,
) -> int | None:
    """Append one erasure entry for 1 to 4,096 living events (ascending seqs), by the site's sequencer; its seq.

    `evidence` (64 hex digits) and `act` (the position of the administrative act that was recorded first) go into the
    record. None, and nothing done: one of the events is gone already, or something new was recorded under a subject
    that was to be unchanged; gather again. Raises `Unavailable`.
    """
    raise NotImplementedError
