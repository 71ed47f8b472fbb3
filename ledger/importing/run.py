"""An import from the file to the summary: read it all once to see that it can be done, then read it again and send.

Nothing is sent while a name is unmapped, a time zone, a version or a key is missing. What is stored is stored: an
import that was interrupted is begun again with the same command, and finds its own events.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import chain
from typing import BinaryIO, NamedTuple, TextIO

import msgspec

from ledger.config import (
    IMPORT_BATCH_LINES,
    IMPORT_BATCH_MAX_BYTES,
    IMPORT_NAME_MAX_CHARACTERS,
    IMPORT_SLICE_ROWS,
    IMPORT_UNMAPPED_MAX,
)
from ledger.core.errors import ConfigInvalid, RowRefused
from ledger.credentials import Access
from ledger.importing.act import Act, LeftOut, Unmapped, act_of
from ledger.importing.found import Format, check_header
from ledger.importing.mapping import Plan
from ledger.importing.row import Row
from ledger.importing.sending import Answer, Sender, fetch_policy, open_session
from ledger.importing.table import Broken, read_table
from ledger.importing.tally import Tally
from ledger.importing.text import read_text
from ledger.importing.values import read_values
from ledger.progress import Progress

_ONCE_FOR_ALL = frozenset({"time-zone-missing", "visitor-key-missing", "no-policy-version"})
"""What is wrong with the command and not with the row: it stops the import before it begins."""
_WRONG_MAPPING = frozenset({"unknown-policy-version", "policy-not-in-force", "secret-key-needed", "scope-missing"})
"""The same, where only the server can tell: it stops the import at its first batch."""


class Export(NamedTuple):
    """The file and how to read it. `limit`: of rows, None for all."""

    file: BinaryIO
    form: Format
    encoding: str | None
    limit: int | None


class Outcome(NamedTuple):
    """One row's fate: `act`, or why there is none."""

    row: Row | Broken
    act: Act | None = None
    left_out: str = ""
    refused: RowRefused | None = None


def fetch_document(access: Access) -> bytes:
    """The document of the site's policy in force, from the server."""

    async def fetch() -> bytes:
        async with open_session() as session:
            return await fetch_policy(session, access)

    return asyncio.run(fetch())


def rows_of(export: Export, plan: Plan) -> Iterator[Row | Broken]:
    """Every row, split into its events. `ConfigInvalid` where the file is not what the format expects."""
    text = read_text(export.file, export.encoding)
    first = next(text, "")
    if not first.strip():
        first += next(text, "")
    form = export.form
    is_json = first.lstrip()[:1] in ("{", "[")
    if is_json and not form.json:
        raise ConfigInvalid(f"the file is JSON, and {form.name} reads CSV")
    if not is_json and not form.tables:
        raise ConfigInvalid(f"the file is no JSON, and {form.name} reads nothing else")
    whole = chain((first,), text)
    read = (
        read_values(whole, form.wrappers)
        if is_json
        else read_table(whole, lambda header: check_header(header, form, plan))
    )
    for count, row in enumerate(read):
        if count == export.limit:
            return
        if isinstance(row, Broken):
            yield row
        else:
            yield from form.split(row) if is_json else (row,)


def outcomes(export: Export, plan: Plan, unmapped: Counter[str]) -> Iterator[Outcome]:
    """What every row becomes; names that are mapped nowhere are counted in `unmapped`."""
    for row in rows_of(export, plan):
        if isinstance(row, Broken):
            yield Outcome(row, refused=row.problem)
            continue
        try:
            done = act_of(row, export.form, plan)
        except RowRefused as error:
            yield Outcome(row, refused=error)
        except Unmapped as error:
            if len(unmapped) < IMPORT_UNMAPPED_MAX:
                unmapped.update(name[:IMPORT_NAME_MAX_CHARACTERS] for name in error.names)
            yield Outcome(row, refused=RowRefused("unmapped-purpose", "The row names a purpose that is not mapped."))
        else:
            yield Outcome(row, left_out=done.kind) if isinstance(done, LeftOut) else Outcome(row, done)


def look_through(export: Export, plan: Plan, report: Report, progress: Progress) -> Tally:
    """The first reading: what would be sent. `ConfigInvalid` names what has to be mapped or given first."""
    tally, unmapped = Tally(), Counter[str]()
    general: dict[str, str] = {}
    size = os.fstat(export.file.fileno()).st_size
    for outcome in outcomes(export, plan, unmapped):
        count(tally, outcome)
        report.tell(outcome)
        if outcome.refused is not None and outcome.refused.kind in _ONCE_FOR_ALL:
            general.setdefault(outcome.refused.kind, outcome.refused.detail)
        if tally.rows % IMPORT_BATCH_LINES == 0:
            progress(export.file.tell() // 1024, size // 1024)
    if unmapped:
        names = ", ".join(json.dumps(name, ensure_ascii=False) for name in sorted(unmapped))
        raise ConfigInvalid(
            f"the site has no purpose for {names}: say in the mapping file which it is, under `purposes`, or that it "
            "is left out, under `ignore`. Nothing was sent"
        )
    if general:
        told = " ".join(f"{detail} ({tally.refused[kind]:,} rows)" for kind, detail in general.items())
        raise ConfigInvalid(f"{told}. Nothing was sent")
    return tally


def count(tally: Tally, outcome: Outcome) -> None:
    """Of one row, as far as it is known before the server answers."""
    tally.rows += 1
    if outcome.act is not None:
        tally.ready += 1
        tally.removed += outcome.act.removed
        tally.visitors[outcome.act.visitor] += 1
        tally.overdue += bool(outcome.act.overdue)
        tally.overdue_purposes.update(outcome.act.overdue)
    elif outcome.refused is not None:
        tally.refused[outcome.refused.kind] += 1
    else:
        tally.left_out[outcome.left_out] += 1


class Report:
    """Refused and left out rows as NDJSON: number and reason, and nothing of the row itself."""

    def __init__(self, file: TextIO | None) -> None:
        self._file = file

    def tell(self, outcome: Outcome) -> None:
        """Of a row that is not sent."""
        if outcome.refused is not None:
            self.write(outcome, "refused", outcome.refused.kind, outcome.refused.detail)
        elif outcome.act is None:
            self.write(outcome, "left-out", outcome.left_out, "")

    def write(self, outcome: Outcome, became: str, kind: str, detail: str) -> None:
        if self._file is None:
            return
        told: dict[str, object] = {"row": outcome.row.number, "outcome": became, "kind": kind}
        if isinstance(outcome.row, Row) and outcome.row.part:
            told["part"] = outcome.row.part
        if detail:
            told["detail"] = detail
        self._file.write(json.dumps(told, ensure_ascii=False) + "\n")


async def send_all(
    export: Export, plan: Plan, access: Access, report: Report, tally: Tally, expected: int, progress: Progress
) -> None:
    """The second reading: every event is offered until it is answered, while the next batch is read. `tally` is right
    at any moment, also when this is interrupted: what is under way then is in it neither way.
    """
    encode: Callable[[object], bytes] = msgspec.json.Encoder().encode
    batch: list[Outcome] = []
    lines: list[bytes] = []
    size = 0
    async with open_session() as session:
        under_way = _UnderWay(Sender(session, access), tally, report)
        try:
            for number, outcome in enumerate(outcomes(export, plan, Counter())):
                if number % IMPORT_SLICE_ROWS == 0:
                    await asyncio.sleep(0)  # answers are read meanwhile
                if outcome.act is None:
                    count(tally, outcome)
                    report.tell(outcome)
                    continue
                line = encode(outcome.act.event)
                if len(lines) == IMPORT_BATCH_LINES or size + len(line) > IMPORT_BATCH_MAX_BYTES:
                    await under_way.follow(batch, lines)
                    progress(tally.rows, expected)
                    batch, lines, size = [], [], 0
                batch.append(outcome)
                lines.append(line)
                size += len(line) + 1
            await under_way.follow(batch, lines)
            await under_way.follow([], [])
        finally:
            under_way.cancel()


class _UnderWay:
    """One batch that is being answered."""

    def __init__(self, sender: Sender, tally: Tally, report: Report) -> None:
        self._sender, self._tally, self._report = sender, tally, report
        self._batch: list[Outcome] = []
        self._answers: asyncio.Task[list[Answer]] | None = None

    async def follow(self, batch: list[Outcome], lines: list[bytes]) -> None:
        """Wait for the answers to the batch before, and send this one."""
        if self._answers is not None:
            for outcome, answer in zip(self._batch, await self._answers, strict=True):
                _answered(self._tally, self._report, outcome, answer)
        self._batch = batch
        self._answers = asyncio.create_task(self._sender.send(lines)) if lines else None

    def cancel(self) -> None:
        if self._answers is not None:
            self._answers.cancel()


def _answered(tally: Tally, report: Report, outcome: Outcome, answer: Answer) -> None:
    if answer.kind in _WRONG_MAPPING and answer.problem is not None:
        raise ConfigInvalid(f"the server refuses row {outcome.row.number}: {answer.problem.detail}")
    count(tally, outcome)
    if answer.problem is None:
        tally.replayed += answer.replayed
        tally.recorded += not answer.replayed
        return
    tally.refused[answer.kind] += 1
    tally.denials_kept += answer.problem.recorded is not None
    detail = answer.problem.detail
    if answer.kind == "id-conflict":
        detail = (
            "The same answer was imported before, under another mapping or version or from a row with other cells; "
            "what is stored never changes. The runbook tells how to correct a mapping."
        )
    report.write(outcome, "refused", answer.kind, detail)
