"""`consent-ledger serve`: the HTTP process (ledger/app) and the worker (ledger/worker), or one of them."""

from __future__ import annotations

import click

from ledger.config import load_settings


@click.command("serve")
@click.option("--role", type=click.Choice(["all", "http", "worker"]), default="all", show_default=True)
def serve_command(role: str) -> None:
    """Serve with external Postgres and NATS, set up by the environment (README, "Run it for real")."""
    from ledger.log_lines import set_up_logging  # noqa: PLC0415 - `--help` starts fast
    from ledger.process import run  # noqa: PLC0415

    settings = load_settings()
    set_up_logging()
    if role == "worker":  # each starts with what it needs alone
        from ledger.worker import run_worker  # noqa: PLC0415

        run(run_worker(settings))
    else:
        from ledger.app import serve_all, serve_http  # noqa: PLC0415

        run(serve_all(settings) if role == "all" else serve_http(settings))
