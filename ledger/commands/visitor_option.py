"""How a command is told a visitor: by a file, standard input or a prompt that shows nothing, and never by an argument.

Arguments end up in shell histories and process lists.
"""

from __future__ import annotations

import sys
from typing import BinaryIO

import click

from ledger.core import forms
from ledger.core.errors import ConfigInvalid
from ledger.core.event import AccountId, VisitorId, matches

_MAX_ID_BYTES = 256

VISITOR_FILE = click.option(
    "--visitor-file",
    type=click.File("rb"),
    default="-",
    help="File that holds the visitor's id; - is standard input, and asks where that is a terminal.  [default: -]",
)


def read_visitor(file: BinaryIO) -> str:
    """The visitor's id; `ConfigInvalid` where what was read is none."""
    text = _read(file, "Visitor id")
    if not matches(VisitorId, text):
        raise ConfigInvalid(f"what was read is not {forms.VISITOR.expected}")
    return text


def read_account(file: BinaryIO) -> str:
    """An account's name, read the same way."""
    text = _read(file, "Account")
    if not matches(AccountId, text):
        raise ConfigInvalid(f"what was read is not {forms.ACCOUNT.expected}")
    return text


def _read(file: BinaryIO, what: str) -> str:
    if file is sys.stdin.buffer and sys.stdin.isatty():
        return str(click.prompt(f"{what} (not shown)", hide_input=True, err=True)).strip()
    return file.read(_MAX_ID_BYTES).decode("ascii", "replace").strip()
