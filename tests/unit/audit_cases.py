"""A bundle in the making that is about to break a rule, and the registry of ways to do so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from ledger.bundle import Directory
from ledger.core import note
from ledger.core.heads import Pins
from ledger.verify import Report, verify
from tests.logbuilder import LogBuilder, put

Expected = list[tuple[int, int | None]]
"""(rule, entry), in log order."""


@dataclass
class Case:
    """A log and what the auditor brings along. A path in `files` with None is deleted from the bundle."""

    log: LogBuilder
    vkey: note.VerifierKey | None = None
    log_id: bytes | None = None
    old: note.Checkpoint | None = None
    witnesses: tuple[note.VerifierKey, ...] = ()
    checkpoint: note.Checkpoint | bytes | None = None
    kept: list[note.Checkpoint] = field(default_factory=list)
    lines: list[bytes] | None = None
    files: dict[str, bytes | None] = field(default_factory=dict)

    def audit(self, directory: Path) -> Report:
        self.log.write(directory, self.checkpoint, self.kept, self.lines)
        for path, data in self.files.items():
            if data is None:
                (directory / path).unlink()
            else:
                put(directory, path, data)
        pins = Pins(self.vkey or self.log.log_vkey, self.log_id, self.old, self.witnesses)
        return verify(Directory(directory), pins)


def faults(report: Report) -> Expected:
    return [(fault.rule, fault.seq) for fault in report.faults]


Break = Callable[[Case], Expected]


class Breaks(dict[str, Break]):
    """Ways to break a rule, by name; each gives what has to be found."""

    def __call__(self, function: Break) -> Break:
        assert function.__name__ not in self
        self[function.__name__] = function
        return function


def short_log() -> LogBuilder:
    """Genesis, a policy, and five events: seqs 0 to 6."""
    log = LogBuilder()
    log.policy()
    log.events(5)
    return log


def long_log() -> LogBuilder:
    """Three entry bundles, the last one partial: seqs 0 to 599."""
    log = LogBuilder()
    log.policy()
    log.events(598)
    return log
