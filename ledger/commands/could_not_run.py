"""How a command that gives a verdict ends where it comes to none: with exit code 2, and one line that says why."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import click

from ledger.core.errors import LedgerError

COULD_NOT_RUN = 2

log = logging.getLogger(__name__)


def of_the_system(error: OSError) -> str:
    """What the system refused, for a person: the file that it is about, and the system's own words."""
    if error.filename is None or error.strerror is None:
        return f"{type(error).__name__}: {error}"
    return f"{error.filename}: {error.strerror}"


@contextmanager
def or_could_not_run(context: click.Context) -> Iterator[None]:
    """Run the block; whatever is raised in it, but `context.exit`, ends the command with `COULD_NOT_RUN`.

    Of faults of the program too: a traceback would exit with 1, which says that what was verified is false.
    """
    try:
        yield
    except KeyboardInterrupt:
        click.echo("could not run: interrupted", err=True)
        context.exit(COULD_NOT_RUN)
    except click.exceptions.Exit:
        raise
    except LedgerError as error:
        click.echo(f"could not run: {error}", err=True)
        context.exit(COULD_NOT_RUN)
    except OSError as error:
        click.echo(f"could not run: {of_the_system(error)}", err=True)
        context.exit(COULD_NOT_RUN)
    except Exception as error:
        log.debug("failed", exc_info=True)
        click.echo(f"could not run, by a fault of this program: {type(error).__name__}: {error}", err=True)
        context.exit(COULD_NOT_RUN)
