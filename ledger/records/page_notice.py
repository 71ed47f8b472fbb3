"""The part of a printed record that shows a notice again: its words, its buttons, its pictures, as they were stored.

What is stored as a notice is core/notice; here nothing of it is judged.
"""

from __future__ import annotations

import base64

from ledger.core.errors import DocumentInvalid
from ledger.core.notice import NoticeArtefact, NoticeText, read_notice
from ledger.records.dossier import Shown
from ledger.records.markup import EMPTY, Html, el, join, link
from ledger.records.page_tables import Reader
from ledger.records.terms import ACTIONS, LAYOUT

_IMAGES = ("image/png", "image/jpeg", "image/webp", "image/gif")


def notice(reader: Reader) -> Html:
    """What the event cites as shown."""
    words, dossier = reader.words, reader.dossier
    sha256 = dossier.event.shown
    if sha256 is None:
        return reader.section("notice", el("p", words["no_notice"]))
    named = el("p", el("code", f"{words['sha256']} {sha256}"), class_="fine")
    if sha256 == dossier.document_sha256:
        return reader.section("notice", el("p", words["notice_is_policy"]), named)
    if dossier.notice is None:
        return reader.section("notice", el("p", words["notice_lost"]), named)
    return reader.section("notice", _shown(reader, dossier.notice), named)


def _shown(reader: Reader, shown: Shown) -> Html:
    if shown.media_type in _IMAGES:
        return _picture(reader, shown)
    if shown.media_type == "application/json":
        try:
            return _artefact(reader, read_notice(shown.body))
        except DocumentInvalid:
            pass  # a document of another kind is shown as it stands
    return el("pre", shown.body.decode("utf-8", "replace"), class_="words")


def _picture(reader: Reader, shown: Shown) -> Html:
    if shown.media_type not in _IMAGES:
        return EMPTY
    source = f"data:{shown.media_type};base64,{base64.b64encode(shown.body).decode('ascii')}"
    return el("figure", el("img", src=source, alt=reader.words["notice"]), class_="picture")


def _artefact(reader: Reader, artefact: NoticeArtefact) -> Html:
    """The words in the visitor's own language, which is what was on the screen, whatever language the page is in."""
    words = reader.words
    language = reader.dossier.event.language or reader.language
    said = _said(artefact, language)
    pictures = [_picture(reader, picture) for picture in reader.dossier.pictures]
    there = {picture.sha256 for picture in reader.dossier.pictures}
    others = [one.document for one in artefact.screenshots if one.document not in there]
    pictures += [el("p", el("code", f"{words['sha256']} {sha256}"), class_="fine") for sha256 in others]
    layout = artefact.layout
    about = [
        join(
            (
                el("dt", words["layout"]),
                el("dd", ", ".join(words.of(LAYOUT, one) for one in (layout.form, layout.position))),
            )
        ),
        join((el("dt", words["refusing"]), el("dd", words.of(LAYOUT, layout.refusing)))),
    ]
    if artefact.defaults:
        set_before = ", ".join(f"{reader.title_of(purpose)}: {words[answer]}" for purpose, answer in
                               sorted(artefact.defaults.items()))  # fmt: skip
        about.append(join((el("dt", words["preset"]), el("dd", set_before))))
    return join(
        (
            _words(reader, said[1], said[0]),
            el("dl", *[el("div", one) for one in about], class_="glance"),
            el("p", layout.description, class_="fine") if layout.description else None,
            *pictures,
        )
    )


def _said(artefact: NoticeArtefact, language: str) -> tuple[str, NoticeText]:
    """The text in the language, or in the nearest."""
    base = language.partition("-")[0]
    tags = (language, base, *(tag for tag in artefact.texts if tag.partition("-")[0] == base), *artefact.texts)
    tag = next(tag for tag in tags if tag in artefact.texts)
    return tag, artefact.texts[tag]


def _words(reader: Reader, said: NoticeText, language: str) -> Html:
    pressed = reader.dossier.event.component or reader.dossier.event.action
    buttons = [
        el(
            "li",
            el("span", label, class_="button pressed" if action == pressed else "button"),
            el("span", f" {reader.words['used']}", class_="fine") if action == pressed else None,
            title=reader.words.of(ACTIONS, action),
        )
        for action, label in said.labels.items()
    ]
    purposes = [el("li", el("strong", reader.title_of(name)), f": {words}") for name, words in said.purposes.items()]
    links = [el("li", link(one.url, one.text), el("span", f" {one.url}", class_="fine")) for one in said.links]
    return el(
        "blockquote",
        el("p", el("strong", said.title)),
        *[el("p", paragraph) for paragraph in said.body],
        el("ul", *purposes) if purposes else None,
        el("ul", *buttons, class_="buttons", aria_label=reader.words["controls"]),
        el("ul", *links) if links else None,
        lang=language,
    )
