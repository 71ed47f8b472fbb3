"""`consent-ledger verify`: arguments in, report and exit code out."""

from __future__ import annotations

from pathlib import Path

import click

from ledger.bundle import Directory
from ledger.core.errors import ConfigInvalid, LedgerError
from ledger.core.heads import Pins
from ledger.core.note import TYPE_COSIGNATURE, TYPE_ED25519, parse_checkpoint, parse_vkey
from ledger.progress import bar
from ledger.verify.report import render
from ledger.verify.walk import verify

COULD_NOT_RUN = 2


def run_verify(
    directory: Path,
    *,
    log_vkey: str,
    log_id: str | None = None,
    old: Path | None = None,
    witnesses: tuple[str, ...] = (),
    as_json: bool = False,
    processes: int | None = None,
) -> int:
    """The command: prints the report, and gives the exit code: 0 sound, 1 fault, 2 could not run, 3 log only."""
    try:
        pins = read_pins(log_vkey, log_id, old, witnesses)
        with bar("Verifying", "entries") as progress:
            report = verify(Directory(directory), pins, processes=processes, progress=progress)
    except KeyboardInterrupt:
        click.echo("could not run: interrupted", err=True)
        return COULD_NOT_RUN
    except (LedgerError, OSError) as error:
        click.echo(f"could not run: {error}", err=True)
        return COULD_NOT_RUN
    except Exception as error:  # a traceback would exit with 1, which says that the log has a fault
        click.echo(f"could not run, by a fault of this program: {type(error).__name__}: {error}", err=True)
        return COULD_NOT_RUN
    click.echo(report.encode() if as_json else render(report))
    return report.exit_code


def read_pins(log_vkey: str, log_id: str | None, old: Path | None, witnesses: tuple[str, ...]) -> Pins:
    """What the auditor brings, from text and a file; `ConfigInvalid` tells which of it cannot be read."""
    try:
        pinned = parse_vkey(log_vkey, TYPE_ED25519)
    except LedgerError as error:
        raise ConfigInvalid(f"--log-vkey: {error}") from error
    if log_id is not None and (len(log_id) != 64 or set(log_id) - set("0123456789abcdef")):
        raise ConfigInvalid("--log-id is 64 hex digits in lower case")
    try:
        older = None if old is None else parse_checkpoint(old.read_bytes())
    except LedgerError as error:
        raise ConfigInvalid(f"--old: {error}") from error
    try:
        trusted = tuple(parse_vkey(witness, TYPE_COSIGNATURE) for witness in witnesses)
    except LedgerError as error:
        raise ConfigInvalid(f"--witness: {error}") from error
    return Pins(pinned, None if log_id is None else bytes.fromhex(log_id), older, trusted)


@click.command("verify")
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("--log-vkey", required=True, metavar="VKEY", help="The log's key, as it was given to you out of band.")
@click.option("--log-id", metavar="HEX", help="The log's id, likewise: pins the genesis entry and so the root key.")
@click.option("--old", type=click.Path(path_type=Path), metavar="FILE", help="A checkpoint kept from an earlier audit.")
@click.option("--witness", "witnesses", multiple=True, metavar="VKEY", help="A witness you trust; may be repeated.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@click.option("--processes", type=click.IntRange(1, 256), help="Worker processes; one for each core by default.")
@click.pass_context
def verify_command(
    context: click.Context,
    directory: Path,
    log_vkey: str,
    log_id: str | None,
    old: Path | None,
    witnesses: tuple[str, ...],
    as_json: bool,
    processes: int | None,
) -> None:
    """Audit an exported bundle offline. Exit code 0: sound, 1: a fault, 2: could not run, 3: log only."""
    context.exit(
        run_verify(
            directory,
            log_vkey=log_vkey,
            log_id=log_id,
            old=old,
            witnesses=witnesses,
            as_json=as_json,
            processes=processes,
        )
    )
