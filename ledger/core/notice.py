"""Notice artefacts: what a visitor was shown, so that it can be shown again; and what may be uploaded beside them.

An artefact is a JSON document that names what was on the screen: the words in each language, what every control said,
what was ticked beforehand, how refusing stood beside accepting. It is kept under the SHA-256 of its bytes. A site
document names it, an event cites it as `shown`. How a page shows it is the page's own affair.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Literal, get_args

from msgspec import Struct

from ledger.core import reading
from ledger.core.errors import DocumentInvalid
from ledger.core.event import MAX_PURPOSES, Action, Answer
from ledger.core.place import Path
from ledger.core.reading import Members, list_of, named, one_of
from ledger.core.source import Node, read_source

MAX_PARAGRAPHS = 50
MAX_SCREENSHOTS = 16
MAX_LINKS = 20
MAX_TEXT_BYTES = 256 * 1024

MediaType = Literal["application/json", "text/plain", "image/png", "image/jpeg", "image/webp"]
MEDIA_TYPES: tuple[MediaType, ...] = get_args(MediaType)
Form = Literal["banner", "modal", "panel", "page"]
Position = Literal["top", "bottom", "left", "right", "center", "full"]
Refusing = Literal["equal", "first-layer", "second-layer", "not-offered"]
"""How refusing is offered: beside accepting and as prominent, on the first layer but less so, behind it, or not."""
Format = Literal["consent-notice/1"]

_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_IMAGES: tuple[tuple[MediaType, re.Pattern[bytes]], ...] = (
    ("image/png", re.compile(rb"\x89PNG\r\n\x1a\n.{4}IHDR", re.DOTALL)),
    ("image/jpeg", re.compile(rb"\xff\xd8\xff")),
    ("image/webp", re.compile(rb"RIFF.{4}WEBP", re.DOTALL)),
)


class _Part(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A part of an artefact."""


class Link(_Part, frozen=True):
    """A link of the notice, in the words that it had."""

    text: str
    url: str


class NoticeText(_Part, frozen=True):
    """The words in one language: `body` by paragraphs, `labels` of controls by what they do, `purposes` by id."""

    title: str
    labels: dict[Action, str]
    body: tuple[str, ...] = ()
    purposes: dict[str, str] = {}
    links: tuple[Link, ...] = ()


class Layout(_Part, frozen=True):
    """What it looked like. `description` says in words what the rest does not: sizes, colours, what was covered."""

    form: Form
    position: Position
    refusing: Refusing
    description: str = ""


class Screenshot(_Part, frozen=True):
    """A picture of it, by its SHA-256 in hex; it is uploaded by itself."""

    document: str
    language: str | None = None


class NoticeArtefact(_Part, frozen=True):
    """A notice as it was shown. `defaults`: what was set before the visitor touched anything, by purpose."""

    format: Format
    texts: dict[str, NoticeText]
    layout: Layout
    defaults: dict[str, Answer] = {}
    screenshots: tuple[Screenshot, ...] = ()


def read_notice(data: bytes) -> NoticeArtefact:
    """The artefact in JSON; `DocumentInvalid` with the place of the first thing that is wrong."""
    if not data.lstrip(b" \t\r\n").startswith(b"{"):
        raise DocumentInvalid((), "a notice is a JSON object")
    source = read_source(data)
    _refuse_numbers(json.loads(data.decode("utf-8-sig")), ())  # which a site document may have for text
    top = Members(source, (), NoticeArtefact.__struct_encode_fields__)
    return NoticeArtefact(
        format=top.need("format", one_of(get_args(Format))),
        texts=top.need("texts", _texts),
        layout=top.need("layout", _layout),
        defaults=top.get("defaults", named(one_of(get_args(Answer)), MAX_PURPOSES, "a purpose's id"), {}),
        screenshots=top.get("screenshots", list_of(_screenshot, MAX_SCREENSHOTS), ()),
    )


def media_type_of(data: bytes) -> MediaType:
    """The one type that the bytes can be kept under; `DocumentInvalid` if they are none that is kept.

    By their bytes alone, so that nobody decides under which type a document is served that others upload too.
    """
    for media_type, magic in _IMAGES:
        if magic.match(data):
            return media_type
    if data.lstrip(b" \t\r\n").startswith(b"{"):
        read_notice(data)
        return "application/json"
    if len(data) > MAX_TEXT_BYTES:
        raise DocumentInvalid((), f"a text has at most {MAX_TEXT_BYTES // 1024} KiB")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DocumentInvalid((), "it is neither a PNG, JPEG or WebP image nor text in UTF-8") from error
    if not text.strip() or _UNPRINTABLE.search(text):
        raise DocumentInvalid((), "a text holds something to read, and no control characters")
    return "text/plain"


def check_notice(notice: NoticeArtefact, languages: Iterable[str], purposes: Iterable[str]) -> None:
    """That an artefact fits the site document that names it; `DocumentInvalid` with its place in the artefact.

    `languages` are those in which visitors are said to have read it, `purposes` those that the document has.
    """
    for language in languages:
        if language not in notice.texts:
            raise DocumentInvalid(("texts", language), "is missing: visitors read the notice in this language")
    known = set(purposes)
    named_in: Mapping[str, Iterable[str]] = {
        "defaults": notice.defaults,
        **{f"texts.{language}.purposes": text.purposes for language, text in notice.texts.items()},
    }
    for place, names in named_in.items():
        for name in names:
            if name not in known:
                raise DocumentInvalid((*place.split("."), name), "the site document has no such purpose")


def pictures_of(data: bytes) -> tuple[str, ...]:
    """The screenshots (SHA-256 in hex) of an artefact; none for anything else."""
    try:
        return tuple(dict.fromkeys(screenshot.document for screenshot in read_notice(data).screenshots))
    except DocumentInvalid:
        return ()


def _refuse_numbers(value: object, path: Path) -> None:
    if isinstance(value, dict):
        for key, inner in value.items():
            _refuse_numbers(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            _refuse_numbers(inner, (*path, index))
    elif not isinstance(value, str):
        raise DocumentInvalid(path, "has to be text in quotation marks")


def _texts(node: Node, path: Path) -> dict[str, NoticeText]:
    members = reading.mapping(node, path)
    if not 0 < len(members) <= reading.MAX_LANGUAGES:
        raise DocumentInvalid(path, f"has to hold texts in 1 to {reading.MAX_LANGUAGES} languages")
    return {reading.language(tag, (*path, tag)): _text(value, (*path, tag)) for tag, value in members.items()}


def _text(node: Node, path: Path) -> NoticeText:
    members = Members(node, path, NoticeText.__struct_encode_fields__)
    return NoticeText(
        title=members.need("title", reading.line),
        body=members.get("body", list_of(reading.text, MAX_PARAGRAPHS), ()),
        labels=members.need("labels", _labels),
        purposes=members.get("purposes", named(reading.text, MAX_PURPOSES, "a purpose's id"), {}),
        links=members.get("links", list_of(_link, MAX_LINKS), ()),
    )


def _labels(node: Node, path: Path) -> dict[Action, str]:
    members = Members(node, path, get_args(Action))
    labels: dict[Action, str] = {}
    for action in get_args(Action):
        if members.has(action):
            labels[action] = members.need(action, reading.line)
    if not labels:
        raise DocumentInvalid(path, "has to name at least one control by what it does, like accept_all")
    return labels


def _link(node: Node, path: Path) -> Link:
    members = Members(node, path, Link.__struct_encode_fields__)
    return Link(text=members.need("text", reading.line), url=members.need("url", reading.https_url))


def _layout(node: Node, path: Path) -> Layout:
    members = Members(node, path, Layout.__struct_encode_fields__)
    return Layout(
        form=members.need("form", one_of(get_args(Form))),
        position=members.need("position", one_of(get_args(Position))),
        refusing=members.need("refusing", one_of(get_args(Refusing))),
        description=members.get("description", reading.text, ""),
    )


def _screenshot(node: Node, path: Path) -> Screenshot:
    members = Members(node, path, Screenshot.__struct_encode_fields__)
    return Screenshot(
        document=members.need("document", reading.sha256), language=members.get("language", reading.language, None)
    )
