"""The tables of a printed record: purposes with their answers, cookies, and every choice of the visitor in order."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ledger.core.document import Cookie, Recipient, Texts
from ledger.core.encoding import encode_time
from ledger.core.event import ANY_PURPOSE
from ledger.messages import PurposeDecision
from ledger.records import facts
from ledger.records.dossier import Dossier, Moment
from ledger.records.facts import Answered
from ledger.records.markup import EMPTY, Html, el, join
from ledger.records.terms import ACTIONS, BASES, EVENTS, REASONS, ROLES, TRANSFERS
from ledger.records.words import Words


@dataclass(frozen=True)
class Reader:
    """Whom a page is for: the words of the labels, the language of the policy's own texts, and what it is about."""

    words: Words
    language: str
    dossier: Dossier

    def text(self, texts: Texts) -> str:
        """A text of the policy in the reader's language, or the nearest."""
        document = self.dossier.document
        return facts.text_in(texts, self.language, () if document is None else document.languages)

    def title_of(self, purpose: str) -> str:
        """What a purpose is called; its id where the policy does not know it."""
        if purpose == ANY_PURPOSE:
            return self.words["everything_optional"]
        document = self.dossier.document
        terms = None if document is None else document.purposes.get(purpose)
        return purpose if terms is None else self.text(terms.title) or purpose

    def time(self, encoded: str) -> Html:
        """A time in the one encoding, as people read it: to the second, in UTC."""
        return el("time", f"{encoded[:10]} {encoded[11:19]} UTC", datetime=encoded)

    def yes_no(self, fact: bool | None) -> str:
        return self.words["not_stated"] if fact is None else self.words["yes" if fact else "no"]

    def lines(self, texts: tuple[str, ...]) -> Html:
        return join([el("span", one) for one in texts if one], "<br>")

    def data_of(self, answered: Answered) -> str:
        terms = answered.terms
        return "" if terms is None else "; ".join(self.text(category.title) for category in terms.data.values())

    def section(self, name: str, *children: Html | None) -> Html:
        """A part of the page under its heading."""
        return el("section", el("h2", self.words[name], id=f"{name}-title"), *children, class_=name,
                  aria_labelledby=f"{name}-title")  # fmt: skip


def table(heads: Iterable[str], rows: Iterable[Html], class_: str) -> Html:
    return el(
        "table",
        el("thead", el("tr", *[el("th", head, scope="col") for head in heads])),
        el("tbody", join(list(rows))),
        class_=class_,
    )


# --- purposes ---------------------------------------------------------------------------------------------------------


def answers(reader: Reader, found: tuple[Answered, ...]) -> Html:
    words = reader.words
    if not found:
        return reader.section("purposes", el("p", words["no_choice"]))
    heads = (words["purpose"], words["answer"], words["basis"], words["recipients"], words["data"])
    return reader.section("purposes", table(heads, [_answer(reader, one) for one in found], "purposes"))


def _answer(reader: Reader, answered: Answered) -> Html:
    words, terms = reader.words, answered.terms
    told = [el("strong", reader.title_of(answered.purpose)), el("code", answered.purpose)]
    if terms is None:
        told.append(el("span", words["unknown_purpose"], class_="fine"))
    else:
        told.append(el("span", reader.text(terms.description)))
        if terms.destination is not None:
            told.append(el("span", f"{words['destination']}: {terms.destination}"))
        if terms.document is not None:
            told.append(el("code", f"{words['accepted']}: {terms.document}"))
        age = facts.minimum_age(terms.minimum_age, reader.dossier.event.region)
        if age is not None:
            told.append(el("span", f"{words['minimum_age']}: {age}"))
    basis = words.of(BASES, facts.legal_basis(terms, reader.dossier.event.region))
    kept = None if terms is None else terms.retention
    data = [el("span", reader.data_of(answered) or words["not_stated"])]
    data += [el("span", f"{words['kept_for']}: {words.period(kept)}", class_="fine")] if kept else []
    return el(
        "tr",
        el("th", join(told, "<br>"), scope="row"),
        el("td", _chosen(reader, answered)),
        el("td", basis),
        el("td", _recipients(reader, facts.recipients([answered]))),
        el("td", join(data, "<br>")),
    )


def _chosen(reader: Reader, answered: Answered) -> Html:
    words, after = reader.words, answered.after
    parts = [_chip(words["granted"] if answered.granted else words["denied"], answered.granted)]
    if answered.granted and after is not None and after.valid_until is not None:
        parts.append(el("span", words["until"], " ", reader.time(after.valid_until), class_="fine"))
    if after is not None and (after.decision == "granted") != answered.granted:
        parts.append(el("span", words.of(REASONS, after.reason), class_="fine"))
    return join(parts, "<br>")


def _chip(words: str, granted: bool) -> Html:
    return el("span", words, class_="chip granted" if granted else "chip denied")


def _recipients(reader: Reader, named: tuple[Recipient, ...]) -> Html:
    words = reader.words
    if not named:
        return el("span", words["nobody"], class_="fine")
    rows = []
    for one in named:
        about = [words.of(ROLES, one.role), one.region or words["not_stated"]]
        about += [words.of(TRANSFERS, one.transfer)] if one.transfer else []
        rows.append(join((el("strong", one.name), el("span", ", ".join(about), class_="fine")), "<br>"))
    return join(rows, "<br>")


# --- cookies ----------------------------------------------------------------------------------------------------------


def cookies(reader: Reader, found: tuple[Answered, ...]) -> Html:
    words = reader.words
    declared = facts.cookies(found)
    if not declared:
        return reader.section("cookies", el("p", words["no_cookies"]))
    heads = (words["name"], words["purpose"], words["meaning"], words["lifetime"], words["whose"])
    return reader.section("cookies", table(heads, [_cookie(reader, *one) for one in declared], "cookies"))


def _cookie(reader: Reader, purpose: str, cookie: Cookie) -> Html:
    words = reader.words
    kind = "" if cookie.storage == "cookie" else f" ({cookie.storage})"
    return el(
        "tr",
        el("th", el("code", cookie.name or cookie.pattern or "\N{EM DASH}"), kind, scope="row"),
        el("td", reader.title_of(purpose)),
        el("td", reader.text(cookie.description)),
        el("td", _lifetime(words, cookie)),
        el("td", words["first" if cookie.party == "first" else "third"]),
    )


def _lifetime(words: Words, cookie: Cookie) -> str:
    if cookie.inactivity is not None:
        return f"{words['unused_for']} {words.period(cookie.inactivity)}"
    if cookie.duration == "session":
        return words["session"]
    if cookie.duration is None or cookie.duration == "persistent":
        return words["persistent"]
    return words.period(cookie.duration)


# --- the visitor's choices --------------------------------------------------------------------------------------------


def timeline(reader: Reader) -> Html:
    """Each event with what the ledger answered right after it; entries that were erased stand in their place."""
    words, dossier = reader.words, reader.dossier
    rows = [(moment.seq, moment_of(reader, moment)) for moment in dossier.timeline]
    rows += [(seq, _erased(reader, seq)) for seq in dossier.erased]
    heads = (words["entry"], words["when"], words["choice"], words["after"])
    left_out = el("p", f"{dossier.left_out} {words['left_out']}", class_="fine") if dossier.left_out else None
    ordered = [row for _, row in sorted(rows, key=lambda row: row[0])]
    return reader.section("timeline", left_out, table(heads, ordered, "timeline"))


def moment_of(reader: Reader, moment: Moment) -> Html:
    """One row of the history."""
    words, event = reader.words, moment.event
    this = moment.seq == reader.dossier.receipt.seq
    what = [el("strong", words.of(EVENTS, event.type))]
    if event.action is not None:
        what.append(el("span", words.of(ACTIONS, event.action), class_="fine"))
    if facts.is_about_account(event):
        what.append(el("span", words["account"], class_="fine"))
    if not moment.own:
        what.append(el("span", words["other_browser"], class_="fine"))
    chosen = [
        _chip(reader.title_of(purpose), answer == "granted")
        for purpose, answer in sorted(event.decisions.items(), key=lambda one: one[0])
    ]
    held = [_held(reader, purpose, decision) for purpose, decision in moment.after.items()]
    return el(
        "tr",
        el("th", str(moment.seq), el("span", words["this_record"], class_="here") if this else EMPTY, scope="row"),
        el("td", reader.time(encode_time(moment.recorded_ms))),
        el("td", join(what, "<br>"), el("div", *chosen, class_="chips")),
        el("td", el("ul", *[one for one in held if one], class_="held")),
        class_="this" if this else None,
    )


def _held(reader: Reader, purpose: str, decision: PurposeDecision) -> Html:
    """What held of one purpose; one that needs no consent is no news."""
    if decision.reason == "not_required":
        return EMPTY
    words = reader.words
    why = words.of(REASONS, decision.reason)
    return el(
        "li",
        _chip(reader.title_of(purpose), decision.decision == "granted"),
        el("span", f" {why}", class_="fine"),
        el("span", f"; {words['conflict']}", class_="fine")
        if decision.conflict and decision.reason != "conflict"
        else None,
    )


def _erased(reader: Reader, seq: int) -> Html:
    cell = el("td", reader.words["erased"], colspan="3", class_="fine")
    return el("tr", el("th", str(seq), scope="row"), cell, class_="erased")
