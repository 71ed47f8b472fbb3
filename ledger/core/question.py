"""What is asked about one visitor, beside the purpose, the policy and the time: core/rules answers it."""

from __future__ import annotations

from typing import Literal, NamedTuple

from ledger.core.event import ANY_PURPOSE
from ledger.core.fold import State


class Mark(NamedTuple):
    """A suppression mark: a denial of a purpose, or of all (`"*"`), that needs no event.

    It counts from `set_ms` until `until_ms` (None: for good); `seq` is the last entry before it was set, which says who
    knew of it.
    """

    purpose: str
    set_ms: int
    until_ms: int | None
    seq: int

    def covers(self, names: tuple[str, ...]) -> bool:
        """Whether it denies a purpose of these names."""
        return self.purpose == ANY_PURPOSE or self.purpose in names


Blocked = Literal["erasure_pending", "restricted"]
"""Why nothing that is on record may be used: it is about to be erased, or its use is restricted."""


class Question(NamedTuple):
    """What is asked about one visitor. `account` is the state of the account that the visitor is linked to, if any;
    `gpc`: the signal is on while this is asked; `region` is the asker's, None where unknown; `blocked`: nobody may use
    what is on record of the visitor, or of the account.
    """

    state: State
    region: str | None = None
    gpc: bool = False
    account: State | None = None
    marks: tuple[Mark, ...] = ()
    blocked: Blocked | None = None
