"""Options that several commands take as text, read strictly: what is wrong is told under the option's name."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, TypeVar

import click
import msgspec

from ledger.core.errors import ConfigInvalid, InputRefused, LedgerError
from ledger.core.event import AnyTime, convert, parse_time

Value = TypeVar("Value")


class FiniteRange(click.FloatRange):
    """A number within bounds; `nan` and `inf` are none, and would pass for one."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number", param, ctx)
        return number


def read(option: str, parse: Callable[[], Value]) -> Value:
    """What `parse` makes of an option; `ConfigInvalid` for whatever it refuses."""
    try:
        return parse()
    except LedgerError as error:
        raise ConfigInvalid(f"{option}: {error}") from error


def read_options(told: Mapping[str, Any], kind: type[Value], names: Mapping[str, str] = MappingProxyType({})) -> Value:
    """Options as the message that HTTP takes; `ConfigInvalid` names the one that has not its form, which is `names` of
    the member, or else its own name."""
    try:
        return convert(told, kind)
    except InputRefused as error:
        member = (error.pointer or "").lstrip("/")
        option = names.get(member) or "--" + re.sub("[A-Z]", lambda upper: f"-{upper[0].lower()}", member)
        raise ConfigInvalid(re.sub(f"^{member} is", f"{option} is", error.detail).rstrip(".")) from error


def read_log_id(option: str, text: str | None) -> bytes | None:
    """The id of a log; None where it is left out."""
    if text is not None and (len(text) != 64 or set(text) - set("0123456789abcdef")):
        raise ConfigInvalid(f"{option} is 64 hex digits in lower case")
    return None if text is None else bytes.fromhex(text)


def read_time(option: str, text: str | None) -> int | None:
    """A time in milliseconds since 1970; None where it is left out."""
    try:
        return None if text is None else parse_time(msgspec.convert(text, AnyTime), "")
    except (msgspec.ValidationError, InputRefused) as error:
        raise ConfigInvalid(f"{option} is a time like 2026-11-21T03:00:00Z") from error
