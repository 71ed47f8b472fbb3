"""The benchmark from end to end: a stack, the measurements, the table.

The load generator runs on the same machine as server, worker, PostgreSQL and NATS, and relay and projector work all the
while. The ratio to pgbench carries over to other machines, the rates do not.
"""

from __future__ import annotations

import os
import platform
import sys
from contextlib import nullcontext
from pathlib import Path

from rich import box
from rich.console import Console
from rich.progress import Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from ledger.bench.measure import (
    BATCH_CONNECTIONS,
    BATCH_LINES,
    CHECK_CONNECTIONS,
    CHECK_VISITORS,
    PROVEN_CONNECTIONS,
    READ_CONNECTIONS,
    Report,
    measure,
)
from ledger.bench.stack import own_stack
from ledger.bench.workload import Measured


def run_bench(
    data: Path | None = None, *, seconds: float = 5.0, witnesses: int = 2, console: Console | None = None
) -> Report:
    """Measure and print. `data` is the directory of a running `up`, whose log keeps the events; None: one of its own,
    which so many witnesses cosign, each a process of its own.

    `ConfigInvalid` if the ledger cannot be reached or answers otherwise than it should.
    """
    columns = (TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task("starting a ledger of its own" if data is None else "starting", total=None)
        with own_stack(witnesses) if data is None else nullcontext(data) as directory:
            report = measure(directory, seconds, lambda text: progress.update(task, description=text))
    _print(report, seconds, console or Console())
    return report


def _print(report: Report, seconds: float, console: Console) -> None:
    machine = f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}, Python {platform.python_version()}"
    console.print(machine)
    console.print(f"{seconds:g} s each; payload of {report.payload_bytes} bytes; relay and projector running")
    console.print(_table(report))
    for memory in report.memory:
        console.print(f"memory of the {memory.name}: {memory.now_mb:.0f} MB, at its highest {memory.peak_mb:.0f} MB")
    cosigned = f" that {report.witnesses} witnesses have cosigned" if report.witnesses else ""
    console.print(f"proven events: until a checkpoint{cosigned} covers them, beside a connection that does not wait")
    console.print(f"batches of {BATCH_LINES:,} events, checks of {CHECK_VISITORS:,} visitors")
    behind = f"stream {report.lag.stream} and projection {report.lag.projection} entries behind"
    console.print(f"after the single events: {behind}, caught up in {report.lag.seconds:.1f} s")
    console.print(f"the log has {report.log_size} entries")


def _table(report: Report) -> Table:
    table = Table("what", "conns", "per second", "p50 ms", "p99 ms", "pgbench", "ratio", box=box.SIMPLE_HEAD)
    for column in table.columns[1:]:
        column.justify = "right"
    for connections, measured in report.events.items():
        plain = (f"{report.plain[connections]:,.0f}", f"{report.ratio(connections):.2f}")
        table.add_row("single events", *_figures(connections, measured), *plain)
    table.add_row("proven events", *_figures(PROVEN_CONNECTIONS, report.proven))
    table.add_row("batched events", *_figures(BATCH_CONNECTIONS, report.batch))
    table.add_row("reads", *_figures(READ_CONNECTIONS, report.reads))
    table.add_row("visitors checked", *_figures(CHECK_CONNECTIONS, report.check))
    return table


def _figures(connections: int, measured: Measured) -> tuple[str, str, str, str]:
    return str(connections), f"{measured.rate:,.0f}", f"{measured.p50_ms:.2f}", f"{measured.p99_ms:.2f}"
