"""`consent-ledger up`: everything on this machine; what that is, is ledger/embedded."""

from __future__ import annotations

from pathlib import Path

import click

from ledger.commands.locate import DATA


@click.command("up")
@DATA
@click.option("--port", type=click.IntRange(0, 65_535), default=8080, show_default=True, help="0: any free port.")
def up_command(data: Path, port: int) -> None:
    """Start everything on this machine: Postgres, NATS and the service, with the example sites.

    Of the LEDGER_… variables only LEDGER_BACKUP_DIR is read. Witnesses are named by a trust policy (C2SP tlog-policy)
    in DATA/witnesses.
    """
    from ledger.embedded.up import up  # noqa: PLC0415 - `--help` starts fast

    up(data, port)
