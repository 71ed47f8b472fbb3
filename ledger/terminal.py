"""Words for a terminal: lines of one width, and nothing of what strangers wrote that could steer it."""

from __future__ import annotations

import textwrap

WIDTH = 100


def plain(text: str) -> str:
    """The text with every character that does not print replaced."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def wrapped(text: str, indent: str = "", hanging: int = 0) -> list[str]:
    """Lines of at most `WIDTH` characters, where words allow it; all but the first with `hanging` spaces before."""
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=indent,
        subsequent_indent=" " * hanging,
        break_long_words=False,
        break_on_hyphens=False,
    )


def row(label: str, text: str, width: int = 12) -> list[str]:
    """A label in a column of so many characters, and what it is about; no line where that is nothing."""
    return wrapped(f"{plain(label):<{width}} {plain(text)}", "  ", width + 3) if text else []
