"""HTML written so that no text can become markup: whatever is not `Html` already is escaped when it is put in.

Nothing here knows what a page says.
"""

from __future__ import annotations

import re
from html import escape

_STEERING = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""Control characters, and those that reorder the text around them."""
_NAME = re.compile(r"[a-z][a-z0-9-]*")
_VOID = frozenset({"img", "br"})


class Html(str):
    """Markup that was made here."""

    __slots__ = ()


EMPTY = Html("")


def text(value: str) -> Html:
    """A text as markup that shows it."""
    return Html(escape(_STEERING.sub("\N{REPLACEMENT CHARACTER}", value), quote=True))


def el(name: str, *children: Html | str | None, **attributes: str | None) -> Html:
    """An element; children that are None are left out, texts are escaped, `class_` is the attribute `class`."""
    assert _NAME.fullmatch(name), name
    parts = []
    for key, value in attributes.items():
        attribute = key.rstrip("_").replace("_", "-")
        assert _NAME.fullmatch(attribute), attribute
        assert not attribute.startswith("on"), attribute
        if value is not None:
            parts.append(f' {attribute}="{text(value)}"')
    start = f"<{name}{''.join(parts)}>"
    if name in _VOID:
        return Html(start)
    return Html(f"{start}{join(children)}</{name}>")


def join(children: tuple[Html | str | None, ...] | list[Html], between: str = "") -> Html:
    """Several pieces as one."""
    return Html(
        between.join(child if isinstance(child, Html) else text(child) for child in children if child is not None)
    )


def link(url: str, words: str | None = None) -> Html:
    """A link, if the address is one of the web or of a mail; else its text alone."""
    shown = url if words is None else words
    if not url.startswith(("https://", "http://", "mailto:")):
        return text(shown)
    return el("a", shown, href=url, rel="noreferrer noopener")
