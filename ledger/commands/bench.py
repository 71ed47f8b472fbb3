"""`consent-ledger bench`: how fast it is on this machine; what is measured, and how, is ledger/bench."""

from __future__ import annotations

from pathlib import Path

import click

from ledger.commands.options import FiniteRange


@click.command("bench")
@click.option(
    "--data", type=click.Path(path_type=Path, file_okay=False), help="Of a running `up`; else one is started beside."
)
@click.option("--seconds", type=FiniteRange(0.5, 600), default=5.0, show_default=True, help="Of each measurement.")
@click.option("--witnesses", type=click.IntRange(0, 16), default=2, show_default=True, help="Of a ledger of its own.")
def bench_command(data: Path | None, seconds: float, witnesses: int) -> None:
    """Measure rates and latencies, beside pgbench's bare insert on the same server."""
    from ledger.bench.run import run_bench  # noqa: PLC0415 - `--help` starts fast

    run_bench(data, seconds=seconds, witnesses=witnesses)
