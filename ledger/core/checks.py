"""Checks done one after another, some of which build upon others: how each ended, and why in plain words."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Generic, NamedTuple, TypeVar

from ledger.core.errors import LedgerError

Name = TypeVar("Name", bound=StrEnum)


class Result(StrEnum):
    OK = "ok"
    FAILED = "failed"
    NOT_CHECKED = "not checked"


class Check(NamedTuple, Generic[Name]):
    """One check, how it ended, and why in plain words."""

    name: Name
    result: Result
    detail: str


class NotChecked(Exception):
    """A check for which something is lacking; the reason is its text."""


class Checks(Generic[Name]):
    """What was checked so far, in order."""

    def __init__(self) -> None:
        self.checks: list[Check[Name]] = []

    def do(self, name: Name, step: Callable[[], str], *needs: Name) -> None:
        """Run a step unless one that it builds upon did not hold; our own errors are the reason of a failure."""
        for check in self.checks:
            if check.name in needs and check.result != Result.OK:
                because = "was not checked" if check.result == Result.NOT_CHECKED else "failed"
                self.checks.append(Check(name, Result.NOT_CHECKED, f"because the check '{check.name}' {because}"))
                return
        try:
            self.checks.append(Check(name, Result.OK, step()))
        except NotChecked as reason:
            self.checks.append(Check(name, Result.NOT_CHECKED, str(reason)))
        except LedgerError as error:
            self.checks.append(Check(name, Result.FAILED, str(error)))
