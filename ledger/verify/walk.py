"""The walk through a bundle: every file is read once, in order, and given to the auditor; all cores are kept busy.

Offline: it asks nobody but the files of the bundle. What the rules say is core/audit.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from ledger.bundle import (
    CHECKPOINT,
    KEPT,
    MAX_DOCUMENT_BYTES,
    PAYLOADS,
    OpeningLines,
    Source,
    document_path,
)
from ledger.config import VERIFY_IN_FLIGHT_MAX_BYTES
from ledger.core.audit import Auditor, Due, read_checkpoint
from ledger.core.chunk import Findings
from ledger.core.errors import Malformed
from ledger.core.faults import Faults
from ledger.core.heads import MAX_KEPT_BYTES, MAX_KEPT_CHECKPOINTS, Pins
from ledger.core.merkle import HASH_BYTES
from ledger.core.note import MAX_CHECKPOINT_BYTES
from ledger.core.tile import ENTRIES, MAX_BUNDLE_BYTES, TILE_WIDTH, Tile
from ledger.progress import Progress
from ledger.verify.report import Report, report_of
from ledger.verify.workers import open_workers


def verify(source: Source, pins: Pins, *, processes: int | None = None, progress: Progress | None = None) -> Report:
    """Audit a bundle by the fourteen rules.

    `processes`: how many to use, by default one for each core. `Malformed` if there is nothing to audit, or more than
    this auditor takes on; OSError if files cannot be read.
    """
    started = time.monotonic()
    faults = Faults()
    try:
        data = source.read(CHECKPOINT, MAX_CHECKPOINT_BYTES)
        checkpoint = None if data is None else read_checkpoint(data, faults)
    except Malformed as error:
        faults.add(1, f"{CHECKPOINT}: {error}")
        return report_of(None, faults, time.monotonic() - started)
    if checkpoint is None:
        raise Malformed("there is no bundle here: it has no file named checkpoint")
    with _payloads(source, faults) as openings:
        auditor = Auditor(pins, checkpoint, faults, log_only=openings is None, key=os.urandom(16))
        _keep(source, auditor)
        auditor.begin()
        _walk(source, auditor, openings, processes or os.cpu_count() or 1, progress or (lambda done, size: None))
    if auditor.suspicious:
        with _payloads(source, Faults()) as openings:
            _look_again(source, auditor, openings)
    return report_of(auditor, faults, time.monotonic() - started)


def _keep(source: Source, auditor: Auditor) -> None:
    """The checkpoints that were kept over time."""
    size_bytes = 0
    for name in source.names(KEPT, MAX_KEPT_CHECKPOINTS):
        data = _read(source, f"{KEPT}/{name}", MAX_CHECKPOINT_BYTES)
        size_bytes += len(data or b"")
        if size_bytes > MAX_KEPT_BYTES:
            raise Malformed(f"more than {MAX_KEPT_BYTES:,} bytes of files in {KEPT}; thin them out")
        auditor.keep(f"{KEPT}/{name}", data)


@contextmanager
def _payloads(source: Source, faults: Faults) -> Iterator[OpeningLines | None]:
    """The openings; None if there are none."""
    try:
        file = source.stream(PAYLOADS)
    except Malformed as error:
        faults.add(1, f"{PAYLOADS}: {error}")
        file = None
    if file is None:
        yield None
        return
    with file:
        yield OpeningLines(file, faults)


def _read(source: Source, path: str, limit: int) -> bytes | None:
    """A file of the bundle; what is no file, or too large, is as good as empty, and fails as such."""
    try:
        return source.read(path, limit)
    except Malformed:
        return b""


class _Begun(NamedTuple):
    """A chunk that is being audited."""

    findings: Callable[[], Findings]
    size_bytes: int


def _walk(source: Source, auditor: Auditor, openings: OpeningLines | None, processes: int, progress: Progress) -> None:
    """Every entry bundle once, in order; findings are taken in order too, however many processes make them."""
    size = auditor.checkpoint.size
    pending: deque[_Begun] = deque()

    def settle() -> None:
        findings = pending.popleft().findings()
        _feed(source, auditor, auditor.take(findings))
        progress(findings.first + findings.width, size)

    with open_workers(processes, size) as workers:
        for first in range(0, size, TILE_WIDTH):
            width = min(TILE_WIDTH, size - first)
            bundle = _read(source, Tile(ENTRIES, first // TILE_WIDTH, width).path, MAX_BUNDLE_BYTES)
            chunk = auditor.chunk(bundle, width, None if openings is None else openings.take(first, first + width))
            if chunk is not None:
                pending.append(_Begun(workers.submit(chunk), len(chunk.bundle) + len(chunk.openings or b"")))
            if auditor.stopped:
                break
            while len(pending) > workers.ahead or sum(one.size_bytes for one in pending) > VERIFY_IN_FLIGHT_MAX_BYTES:
                settle()
        while pending:
            settle()
    if openings is not None and not auditor.stopped:
        openings.finish(size)
    _feed(source, auditor, auditor.finish())


def _feed(source: Source, auditor: Auditor, due: Due) -> None:
    for tile in due.tiles:
        auditor.tile(tile, _read(source, tile.tile.path, TILE_WIDTH * HASH_BYTES))
    for digest, seq in due.documents:
        auditor.document(digest, seq, _read(source, document_path(digest), MAX_DOCUMENT_BYTES))


def _look_again(source: Source, auditor: Auditor, openings: OpeningLines | None) -> None:
    """Something seems to be in the log twice: say what, and where."""
    size = auditor.checkpoint.size
    for first in range(0, size, TILE_WIDTH):
        width = min(TILE_WIDTH, size - first)
        bundle = _read(source, Tile(ENTRIES, first // TILE_WIDTH, width).path, MAX_BUNDLE_BYTES) or b""
        auditor.recheck(first, width, bundle, None if openings is None else openings.take(first, first + width))
