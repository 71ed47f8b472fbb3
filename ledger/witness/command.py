"""`consent-ledger witness`: run a witness on a machine of one's own. It needs a directory and nothing of a ledger."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import signal
import sqlite3
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import click

from ledger import config
from ledger.core.encoding import encode_time
from ledger.core.errors import ConfigInvalid
from ledger.core.note import TYPE_ED25519, parse_vkey
from ledger.log_lines import set_up_logging
from ledger.witness import state
from ledger.witness.server import serving

log = logging.getLogger(__name__)

DIRECTORY = click.argument("directory", metavar="DIR", type=click.Path(path_type=Path, file_okay=False))
JSON = click.option("--json", "as_json", is_flag=True, help="For programs.")


@contextlib.contextmanager
def _opened(directory: Path) -> Iterator[state.WitnessState]:
    opened = state.open_state(directory, time.time)
    try:
        yield opened
    except sqlite3.Error as error:
        raise ConfigInvalid(f"the database of the witness in {directory}: {error}") from error
    finally:
        opened.close()


@click.group("witness")
def witness_command() -> None:
    """Be a witness: cosign logs that only ever grow, so that their operators cannot show two histories."""


@witness_command.command("init")
@DIRECTORY
@click.option("--name", required=True, help="A name that is yours, like witness.example.org/w1; it never changes.")
def init(directory: Path, name: str) -> None:
    """Make a witness in DIR: its key (readable by you alone) and its empty memory."""
    vkey = state.create(directory, name)
    click.echo(f"vkey    {vkey}")
    click.echo(f"policy  witness {vkey.name} {vkey} URL")
    click.echo(
        "Give the vkey to everybody who is to rely on this witness, and the policy line, with the URL under which you "
        "run it, to the log. Never put DIR back from an older copy: a witness that forgot is worse than none.",
        err=True,
    )


@witness_command.command("add-log")
@DIRECTORY
@click.argument("vkey")
def add_log(directory: Path, vkey: str) -> None:
    """Trust a log by its VKEY, as its operator published it; a running witness knows it at once.

    A log that changes its key: add the new one before the log retires the old one, then `remove-log` the old one.
    """
    parsed = parse_vkey(vkey, TYPE_ED25519)
    with _opened(directory) as opened:
        keys = opened.add_log(parsed)
    click.echo(f"{parsed.name}: trusted" + (f", with {keys} keys" if keys > 1 else ""))


@witness_command.command("remove-log")
@DIRECTORY
@click.argument("vkey")
def remove_log(directory: Path, vkey: str) -> None:
    """Trust this VKEY of a log no longer. What was cosigned of that log stays known."""
    with _opened(directory) as opened:
        if not opened.remove_log(vkey):
            raise ConfigInvalid("this vkey is not trusted here; `consent-ledger witness list` shows those that are")
    click.echo("removed")


@witness_command.command("list")
@DIRECTORY
@JSON
def list_logs(directory: Path, as_json: bool) -> None:
    """This witness's vkey, and each log with its key, size and time of the last cosignature."""
    with _opened(directory) as opened:
        vkey, logs = str(opened.vkey), opened.logs()
    if as_json:
        click.echo(json.dumps({"vkey": vkey, "logs": [known._asdict() for known in logs]}))
        return
    click.echo(f"this witness: {vkey}")
    for known in logs:
        seen = "nothing cosigned yet"
        if known.size is not None and known.cosigned_at is not None:
            seen = f"{known.size} entries at {encode_time(known.cosigned_at * 1000)}"
        click.echo(f"{known.vkey}\t{seen}")


@witness_command.command("evidence")
@DIRECTORY
@JSON
def evidence(directory: Path, as_json: bool) -> None:
    """Print the pairs of signed checkpoints that do not go together. Exit code 1 if a log signed two heads."""
    with _opened(directory) as opened:
        found = opened.evidence()
    if as_json:
        click.echo(json.dumps([pair._asdict() for pair in found]))
    else:
        for pair in found:
            click.echo(f"--- {pair.kind}: {pair.origin}, found {encode_time(pair.found_at * 1000)}\n")
            click.echo(f"cosigned:\n\n{pair.held}\noffered:\n\n{pair.offered}")
        click.echo(f"{len(found)} pairs" if found else "no evidence against any log", err=True)
    sys.exit(1 if any(pair.kind == state.FORK for pair in found) else 0)


@witness_command.command("run")
@DIRECTORY
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65_535), default=8091, show_default=True, help="0: any free port.")
def run(directory: Path, host: str, port: int) -> None:
    """Serve until Ctrl-C or SIGTERM. Put a web server with TLS before it to let a log reach it from outside."""
    set_up_logging()
    asyncio.run(_run(directory, host, port))


async def _run(directory: Path, host: str, port: int) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    with _opened(directory) as opened:
        behind = opened.last_cosigned_at() - int(time.time())
        if behind > config.WITNESS_CLOCK_BACK_SECONDS:
            log.error("the clock stands %d s before the last cosignature: nothing is cosigned until it is set", behind)
        try:
            async with serving(opened, host, port) as (address, bound):
                shown = f"[{address}]" if ":" in address else address
                click.echo(f"witness {opened.vkey.name} {opened.vkey} http://{shown}:{bound}")
                log.info("watching over %d keys of logs", len(opened.logs()))
                await stop.wait()
                log.info("stopping: no new requests, waiting for those in flight")
        except OSError as error:
            raise ConfigInvalid(f"cannot listen on {host}:{port} ({error.strerror}); choose another --port") from error
