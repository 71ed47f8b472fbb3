"""The command `doctor`: a line for each finding, and an exit code for a timer that runs it."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import click

from ledger.commands.locate import DATA, find_settings
from ledger.doctor.finding import Verdict

_MARKS = {Verdict.GOOD: "ok    ", Verdict.ADVICE: "advice", Verdict.BAD: "BAD   "}


@click.command("doctor")
@DATA
def doctor_command(data: Path) -> None:
    """Look at the installation, and say what is not as it should be. Exit code 1 if something is bad."""
    from ledger.doctor.examine import examine  # noqa: PLC0415 - `--help` starts fast

    async def work() -> bool:
        is_bad = False
        async for finding in examine(find_settings(data)):
            click.echo(f"{_MARKS[finding.verdict]}  {finding.what}: {finding.detail}")
            is_bad = is_bad or finding.verdict is Verdict.BAD
        return is_bad

    sys.exit(1 if asyncio.run(work()) else 0)
