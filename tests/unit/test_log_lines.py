"""What a process logs of an exception: its kind and where it arose, and not its text, which may quote data."""

from __future__ import annotations

import io
import logging

from ledger.log_lines import Formatter

VISITOR = "visitor-that-must-not-be-logged"


def failing() -> None:
    try:
        raise ValueError(f"invalid input for query argument $2: {VISITOR}")
    except ValueError as error:
        raise RuntimeError(f"it failed for {VISITOR}") from error


def test_an_exception_is_told_by_its_kind_and_place_and_never_by_its_text() -> None:
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(Formatter("%(levelname)s: %(message)s"))
    log = logging.Logger("ledger.test")
    log.addHandler(handler)
    try:
        failing()
    except RuntimeError:
        log.exception("the work failed; it is tried again")
    told = written.getvalue()
    assert told.startswith("ERROR: the work failed; it is tried again\nRuntimeError, raised\n")
    assert "after ValueError, raised\n" in told
    assert told.count("in failing") == 2
    assert VISITOR not in told
