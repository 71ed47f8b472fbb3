"""The options by which a command is told who acts, and on whose word: `--as`, `--instruction` and `--flag`.

What becomes of it is ledger/administration.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar, get_args

import click

from ledger.core.admin_act import Flag

Command = TypeVar("Command", bound=Callable[..., Any])

AS = click.option("--as", "actor", metavar="NAME", help="Who acts, for the administrative log; by default this user.")
"""Of commands that find out on whose word in another way; administration.actor_here has the default."""


def acting_options(command: Command) -> Command:
    """A command that is an administrative act: it gets `who`, a `Who` in the role of an operator."""

    @AS
    @click.option("--instruction", metavar="TEXT", help="Under which instruction, for the administrative log.")
    @click.option(
        "--flag",
        "flagged",
        type=click.Choice(get_args(Flag)),
        help="The instruction is believed unlawful, for this reason; on record beside the act.",
    )
    @functools.wraps(command)
    def acted(*arguments: Any, actor: str | None, instruction: str | None, flagged: Flag | None, **others: Any) -> Any:
        from ledger.administration import Who, actor_here  # noqa: PLC0415 - `--help` starts fast

        return command(*arguments, who=Who(actor_here(actor), "operator", instruction, None, flagged), **others)

    return acted  # type: ignore[return-value]
