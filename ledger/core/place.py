"""A place in a document: how it is kept, and how it is written for a person and for a program."""

from __future__ import annotations

from typing import TypeAlias

Path: TypeAlias = "tuple[str | int, ...]"
"""The keys of mappings and the indices of lists on the way to the place; empty for the whole document."""


def readable(path: Path) -> str:
    """Like `purposes.analytics.cookies[2].duration`."""
    steps = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return "".join(steps).removeprefix(".")


def pointer(path: Path) -> str:
    """An RFC 6901 JSON pointer, like `/purposes/analytics/cookies/2/duration`."""
    return "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in path)
