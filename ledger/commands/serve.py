"""`consent-ledger serve`: the HTTP process and the worker, or one of them; they are wired in ledger/app."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import click

from ledger.config import Settings, load_settings


@click.command("serve")
@click.option("--role", type=click.Choice(["all", "http", "worker"]), default="all", show_default=True)
def serve_command(role: str) -> None:
    """Serve with external Postgres and NATS, set up by the environment (README, "Run it for real")."""
    from ledger import app  # noqa: PLC0415 - `--help` starts fast

    settings = load_settings()
    app.set_up_logging()
    roles: dict[str, Callable[[Settings], Coroutine[Any, Any, None]]] = {
        "all": app.serve_all,
        "http": app.serve_http,
        "worker": app.run_worker,
    }
    app.run(roles[role](settings))
