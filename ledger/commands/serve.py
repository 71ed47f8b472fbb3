"""`consent-ledger serve`: the HTTP process (ledger/app) and the worker (ledger/worker), or one of them."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import click

from ledger.config import Settings, load_settings


@click.command("serve")
@click.option("--role", type=click.Choice(["all", "http", "worker"]), default="all", show_default=True)
def serve_command(role: str) -> None:
    """Serve with external Postgres and NATS, set up by the environment (README, "Run it for real")."""
    from ledger.app import serve_all, serve_http  # noqa: PLC0415 - `--help` starts fast
    from ledger.log_lines import set_up_logging  # noqa: PLC0415
    from ledger.process import run  # noqa: PLC0415
    from ledger.worker import run_worker  # noqa: PLC0415

    settings = load_settings()
    set_up_logging()
    roles: dict[str, Callable[[Settings], Coroutine[Any, Any, None]]] = {
        "all": serve_all,
        "http": serve_http,
        "worker": run_worker,
    }
    run(roles[role](settings))
