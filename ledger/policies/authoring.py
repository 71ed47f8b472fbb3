"""A site document as its author keeps it: beside the files that it names, whose hashes are filled in here.

Where a published document has the SHA-256 of a notice, of a picture in it, or of what visitors accept, an author may
write `{file: notices/banner.json}`, relative to the document. Nothing is uploaded here.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple, TypeGuard

from ledger.config import NOTICE_MAX_BYTES, PICTURE_MAX_BYTES
from ledger.core.document import SiteDocument
from ledger.core.errors import DocumentInvalid
from ledger.core.notice import MediaType, check_notice, media_type_of, read_notice
from ledger.core.place import Path as Place
from ledger.core.source import Node, read_source


class Authored(NamedTuple):
    """The document with hashes instead of files, and what has to be uploaded before it is published."""

    source: bytes
    uploads: tuple[tuple[MediaType, bytes], ...]


def read_authored(data: bytes, folder: Path | None) -> Authored:
    """`data` with the files that it names in `folder` (None: it names none, for nobody knows where they would be).

    A document without files comes back as it is. `DocumentInvalid` with the place that names what cannot be used.
    """
    if b"file" not in data:
        return Authored(data, ())
    node = read_source(data)
    files = _Files(folder)
    if isinstance(node, dict):
        notices, purposes = node.get("notices"), node.get("purposes")
        for name, notice in notices.items() if isinstance(notices, dict) else ():
            if not isinstance(notice, dict):
                continue
            inner = notice.get("document")
            if _names_file(inner):
                stored = files.take(inner["file"], ("notices", name, "document", "file"))
            elif "file" in notice:
                stored = files.take(notice["file"], ("notices", name, "file"))
            else:
                continue
            notice.pop("file", None)
            notice["document"] = stored.digest
            notice.setdefault("mediaType", stored.media_type)
        for name, purpose in purposes.items() if isinstance(purposes, dict) else ():
            named = purpose.get("document") if isinstance(purpose, dict) else None
            if isinstance(purpose, dict) and _names_file(named):
                purpose["document"] = files.take(named["file"], ("purposes", name, "document", "file")).digest
    if not files.uploads:
        return Authored(data, ())
    return Authored(json.dumps(node, ensure_ascii=False).encode(), tuple(files.uploads.values()))


def check_uploads(document: SiteDocument, uploads: Iterable[tuple[str, bytes]]) -> None:
    """That each notice among the uploads fits the document that names it, as publishing is going to ask; of what was
    uploaded before nothing is known here. `DocumentInvalid` otherwise.
    """
    at_hand = {sha256(body).hexdigest(): body for media_type, body in uploads if media_type == "application/json"}
    for name, notice in document.notices.items():
        body = at_hand.get(notice.document)
        if body is None:
            continue
        try:
            check_notice(
                read_notice(body), (notice.language,) if notice.language else document.languages, document.purposes
            )
        except DocumentInvalid as error:
            raise DocumentInvalid(("notices", name), f"the notice does not fit: {error}") from error


def _names_file(node: Node | None) -> TypeGuard[dict[str, Node]]:
    return isinstance(node, dict) and set(node) == {"file"}


class _Stored(NamedTuple):
    digest: str
    media_type: MediaType


class _Files:
    """The files that were read, by their hash."""

    def __init__(self, folder: Path | None) -> None:
        self.uploads: dict[str, tuple[MediaType, bytes]] = {}
        self._folder = folder

    def take(self, name: Node, place: Place) -> _Stored:
        """A file that the document names, with the pictures that it names in turn."""
        body = self._read(name, place)
        if body.lstrip(b" \t\r\n").startswith(b"{"):
            body = self._with_pictures(body, place)
        try:
            media_type = media_type_of(body)
        except DocumentInvalid as error:
            raise DocumentInvalid(place, f"{name}: {error}") from error
        digest = sha256(body).hexdigest()
        self.uploads[digest] = (media_type, body)
        return _Stored(digest, media_type)

    def _with_pictures(self, body: bytes, place: Place) -> bytes:
        """A notice, as it is, unless it names pictures by their files."""
        node = read_source(body)
        screenshots = node.get("screenshots") if isinstance(node, dict) else None
        listed = screenshots if isinstance(screenshots, list) else []
        named = [one for one in listed if isinstance(one, dict) and "file" in one]
        for screenshot in named:
            screenshot["document"] = self.take(screenshot.pop("file"), place).digest
        return json.dumps(node, ensure_ascii=False).encode() if named else body

    def _read(self, name: Node, place: Place) -> bytes:
        if not isinstance(name, str):
            raise DocumentInvalid(place, "has to be the name of a file")
        if self._folder is None:
            raise DocumentInvalid(place, "a document from standard input has no files beside it: name a file")
        limit = max(NOTICE_MAX_BYTES, PICTURE_MAX_BYTES)
        try:
            with (self._folder / name).open("rb") as file:
                body = file.read(limit + 1)
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else "no name of a file"
            raise DocumentInvalid(place, f"the file {name} cannot be read: {why}") from error
        if len(body) > limit:
            raise DocumentInvalid(place, f"the file {name} has more than {limit:,} bytes")
        return body
