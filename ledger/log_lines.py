"""The log of a process: a line an event to standard error, and nothing in it that identifies a visitor.

What is logged says so itself; the one thing that nobody writes is the text of an exception, which may quote data (a
driver's names the value that it could not send). So of an exception only its kind is told, and where it arose.
"""

from __future__ import annotations

import logging
import traceback
from types import TracebackType

_LINE = "%(asctime)s %(levelname)s %(name)s: %(message)s"
_NOISY = ("asyncio", "nats", "aiohttp.access")


class Formatter(logging.Formatter):
    """Formats an exception, and those that led to it, without their texts."""

    def formatException(  # noqa: N802 - the name is logging's
        self,
        ei: tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None],
    ) -> str:
        told: list[str] = []
        error = ei[1]
        while error is not None:
            where = "".join(traceback.format_tb(error.__traceback__)).rstrip()
            told.append(f"{type(error).__name__}, raised\n{where}")
            error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
        return "\nafter ".join(told)


def set_up_logging() -> None:
    """For a process that goes on; commands that end say what they have to say by themselves."""
    handler = logging.StreamHandler()
    handler.setFormatter(Formatter(_LINE))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    for noisy in _NOISY:
        logging.getLogger(noisy).setLevel(logging.ERROR)
