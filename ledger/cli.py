"""The command line: where each command is found, and how one ends that cannot do its work.

Our own errors end a command with one line on standard error and exit code 2 (1 where a check failed).
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import asyncpg
import click

from ledger import __version__
from ledger.commands.could_not_run import of_the_system
from ledger.core.errors import LedgerError

COMMANDS: Mapping[str, str] = {
    "admin-log": "ledger.commands.admin_log",
    "api-key": "ledger.commands.api_key",
    "backup": "ledger.backup.command",
    "bench": "ledger.commands.bench",
    "certificate": "ledger.commands.certificate",
    "checkpoint": "ledger.checkpointer.command",
    "consumer": "ledger.commands.consumer",
    "cookies": "ledger.commands.cookies",
    "decide": "ledger.commands.decide",
    "doctor": "ledger.doctor.command",
    "erase": "ledger.erasing.command",
    "export": "ledger.commands.export",
    "export-person": "ledger.commands.export_person",
    "import": "ledger.importing.command",
    "key": "ledger.keys.command",
    "migrate": "ledger.commands.migrate",
    "monitor": "ledger.monitor.command",
    "policy": "ledger.policies.command",
    "rebuild": "ledger.commands.rebuild",
    "receipt": "ledger.commands.receipt",
    "recover": "ledger.recover.command",
    "request": "ledger.requests.command",
    "restore": "ledger.backup.command",
    "retention": "ledger.retention.command",
    "scrub": "ledger.commands.scrub",
    "serve": "ledger.commands.serve",
    "simulate": "ledger.commands.simulate",
    "site": "ledger.commands.site",
    "up": "ledger.commands.up",
    "verify": "ledger.commands.verify",
    "witness": "ledger.witness.command",
}
"""The module of each command, which has it as `<name>_command`; imported when called, so that each starts fast."""


class Group(click.Group):
    """Ends with a sentence instead of a traceback."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        module = COMMANDS.get(cmd_name)
        if module is None:
            return None
        command: click.Command = getattr(importlib.import_module(module), f"{cmd_name.replace('-', '_')}_command")
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            raise Failure("interrupted") from error
        except LedgerError as error:
            raise Failure(str(error)) from error
        except BrokenPipeError:  # whoever read what is printed has enough of it: click ends without a word
            raise
        except OSError as error:
            raise Failure(of_the_system(error)) from error
        except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            raise Failure(f"{type(error).__name__}: {error}") from error


class Failure(click.ClickException):
    """The command could not do its work."""

    exit_code = 2


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def main() -> None:
    """A ledger of consent: every consent provable, every person forgettable."""
