"""Untrusted YAML or JSON as text, lists and mappings, within bounds. Knows nothing of what the document means.

Every scalar of YAML, and every number of JSON, stays the text that was written: `1.0` is no float, `NO` is not false
and `2026-05-11` is no date, so nothing that YAML would guess reaches a document. Anchors, aliases, tags, further
documents, doubled keys and empty values are refused; size, depth and the number of values are bounded.
"""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TypeAlias, cast

import yaml

from ledger.core.errors import DocumentInvalid
from ledger.core.place import Path

MAX_DOCUMENT_BYTES = 256 * 1024
MAX_DEPTH = 10
MAX_VALUES = 20_000
MAX_KEY_CHARS = 128

Node: TypeAlias = "str | bool | list[Node] | dict[str, Node]"
"""Only JSON has booleans of its own; YAML's `true` is the text `true`."""

_LOADER: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_source(data: bytes) -> Node:
    """The one document in `data`: JSON where it begins with a brace, else YAML.

    `DocumentInvalid` names the place, or the line, of what is wrong.
    """
    if len(data) > MAX_DOCUMENT_BYTES:
        raise DocumentInvalid((), f"the document is larger than {MAX_DOCUMENT_BYTES // 1024} KiB")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DocumentInvalid((), f"the document is not UTF-8 (byte {error.start}); save it as UTF-8") from error
    return _read_json(text) if text.lstrip(" \t\r\n").startswith("{") else _read_yaml(text)


def line_of(data: bytes, place: Path) -> int | None:
    """The line, from 1, on which a place stands; that of what should hold it where it is missing.

    None for the document as a whole, and where no line is known. JSON is read as the YAML that it nearly is.
    """
    lines: dict[Path, int] = {}
    with suppress(DocumentInvalid, UnicodeDecodeError, yaml.YAMLError):
        if len(data) <= MAX_DOCUMENT_BYTES:
            _YamlBuilder(data.decode("utf-8-sig"), lines).document()
    return next((lines[place[:end]] for end in range(len(place), 0, -1) if place[:end] in lines), None)


class _Bounds:
    """Counts what is read and refuses what goes beyond the bounds."""

    def __init__(self) -> None:
        self._values = 0

    def enter(self, path: Path, depth: int) -> None:
        self._values += 1
        if self._values > MAX_VALUES:
            raise DocumentInvalid(path, f"the document holds more than {MAX_VALUES} values")
        if depth > MAX_DEPTH:
            raise DocumentInvalid(path, f"nested deeper than {MAX_DEPTH} levels")


def _checked_key(key: object, path: Path, members: dict[str, Node]) -> tuple[str, Path]:
    """The key and the path of its value."""
    if not isinstance(key, str) or not 0 < len(key) <= MAX_KEY_CHARS or not key.isprintable():
        raise DocumentInvalid(path, f"a key has to be printable text of 1 to {MAX_KEY_CHARS} characters")
    inner = (*path, key)
    if key in members:
        raise DocumentInvalid(inner, "the key appears twice; keep one of them")
    return key, inner


_NO_VALUE = "has no value; give it one or leave the key out"


def _read_yaml(text: str) -> Node:
    try:
        return _YamlBuilder(text).document()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
        raise DocumentInvalid((), f"not valid YAML: {error.problem or error.context}{where}") from error
    except yaml.YAMLError as error:
        raise DocumentInvalid((), "not valid YAML: it holds a character that YAML does not allow") from error


class _YamlBuilder:
    """Values from the parser's events, which come one by one: a bound is hit before its excess is read."""

    def __init__(self, text: str, lines: dict[Path, int] | None = None) -> None:
        self._events = iter(yaml.parse(text, Loader=_LOADER))
        self._bounds = _Bounds()
        self._lines = lines

    def document(self) -> Node:
        next(self._events)  # the stream's start
        if isinstance(next(self._events), yaml.StreamEndEvent):
            raise DocumentInvalid((), "the document is empty")
        root = self._value(next(self._events), (), 0)
        next(self._events)  # the document's end
        if not isinstance(next(self._events), yaml.StreamEndEvent):
            raise DocumentInvalid((), "there is more than one document; keep one and drop the `---` between them")
        return root

    def _value(self, event: object, path: Path, depth: int) -> Node:
        self._bounds.enter(path, depth)
        if isinstance(event, yaml.AliasEvent):
            raise DocumentInvalid(path, "aliases (*name) are not used here; write the value out")
        node = cast(yaml.NodeEvent, event)
        if node.anchor is not None:
            raise DocumentInvalid(path, "anchors (&name) are not used here; write the value out where it is needed")
        if getattr(node, "tag", None) is not None:
            raise DocumentInvalid(path, "tags (!name) are not used here; write the plain value")
        if isinstance(event, yaml.ScalarEvent):
            if not event.style and event.value in ("", "~", "null", "Null", "NULL"):
                raise DocumentInvalid(path, _NO_VALUE)
            return str(event.value)
        if isinstance(event, yaml.SequenceStartEvent):
            return self._list(path, depth)
        return self._mapping(path, depth)

    def _list(self, path: Path, depth: int) -> list[Node]:
        items: list[Node] = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            inner = (*path, len(items))
            self._stands(event, inner)
            items.append(self._value(event, inner, depth + 1))
        return items

    def _mapping(self, path: Path, depth: int) -> dict[str, Node]:
        members: dict[str, Node] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            plain = isinstance(event, yaml.ScalarEvent | yaml.AliasEvent)
            key, inner = _checked_key(self._value(event, path, depth + 1) if plain else None, path, members)
            self._stands(event, inner)
            members[key] = self._value(next(self._events), inner, depth + 1)
        return members

    def _stands(self, event: object, path: Path) -> None:
        mark = cast(yaml.Event, event).start_mark
        if self._lines is not None and mark is not None:
            self._lines[path] = mark.line + 1


class _Members(list[tuple[str, object]]):
    """A JSON object as it was written, doubled members and all."""


def _read_json(text: str) -> Node:
    try:
        value = json.loads(text, object_pairs_hook=_Members, parse_int=str, parse_float=str, parse_constant=str)
    except json.JSONDecodeError as error:
        raise DocumentInvalid((), f"not valid JSON: {error.msg} (line {error.lineno}, column {error.colno})") from error
    except RecursionError as error:
        raise DocumentInvalid((), f"nested deeper than {MAX_DEPTH} levels") from error
    return _json_node(value, (), 0, _Bounds())


def _json_node(value: object, path: Path, depth: int, bounds: _Bounds) -> Node:
    bounds.enter(path, depth)
    if isinstance(value, _Members):
        members: dict[str, Node] = {}
        for name, inner_value in value:
            key, inner = _checked_key(name, path, members)
            members[key] = _json_node(inner_value, inner, depth + 1, bounds)
        return members
    if isinstance(value, list):
        return [_json_node(item, (*path, index), depth + 1, bounds) for index, item in enumerate(value)]
    if value is None:
        raise DocumentInvalid(path, _NO_VALUE)
    return cast("str | bool", value)
