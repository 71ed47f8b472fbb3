"""`consent-ledger simulate`: a day of visitors against a running server; who they are is ledger/simulate."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from ledger.commands.locate import DATA
from ledger.commands.options import FiniteRange


@click.command("simulate")
@click.argument("site_name", metavar="SITE")
@click.option("--visitors", type=click.IntRange(1, 10_000_000), default=1_000, show_default=True)
@click.option("--minutes", type=FiniteRange(min=0, min_open=True), help="Go on for so long instead.")
@click.option("--concurrency", type=click.IntRange(1, 1_000), default=16, show_default=True)
@click.option("--seed", type=int, default=1, show_default=True, help="Fixes who does what.")
@DATA
def simulate_command(
    site_name: str, visitors: int, minutes: float | None, concurrency: int, seed: int, data: Path
) -> None:
    """Live a realistic day of visitors against a running server, and check every answer."""
    from ledger.credentials import find_access  # noqa: PLC0415 - `--help` starts fast
    from ledger.simulate.run import Plan, run_simulate  # noqa: PLC0415

    plan = Plan(visitors=visitors, minutes=minutes, concurrency=concurrency, seed=seed)
    sys.exit(run_simulate(find_access(site_name, data), plan))
