"""Everything that is held of one person as a page for that person: what holds now, every choice, requests, the proof.

Gives the page's body; its frame, style and script are the web's (ledger/web/record.html). It can be read without a
script, and printed; with one, it verifies each receipt that it carries.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

from ledger.core.document import SiteDocument
from ledger.core.event import ANY_PURPOSE
from ledger.person_messages import PersonEvent, PersonExport
from ledger.records import facts
from ledger.records.markup import Html, el, join
from ledger.records.page import Written
from ledger.records.page_tables import table
from ledger.records.person_terms import KINDS, PERSON, STATES
from ledger.records.terms import ACTIONS, EVENTS, REASONS
from ledger.records.words import LANGUAGES, Words


def write(export: PersonExport, document: SiteDocument | None, asked: str | None = None) -> Written:
    """The page in a language: the one asked for, else the visitor's newest, else the site's first."""
    told = [event.event.language for event in reversed(export.events) if event.event.language]
    site = () if document is None else document.languages
    language = asked or next(iter((*told, *site, LANGUAGES[0])))
    page = _Page(Words(language), language, export, document)
    body = join(
        (
            page.head(),
            page.standing(),
            page.history(),
            page.requests(),
            page.restrictions(),
            page.proof(),
        ),
        "\n",
    )
    words = page.words
    script_words: dict[str, object] = {
        key: words[key] for key in ("verified", "failed", "unproven", "unable", "ok", "not_checked", "broken")
    }
    script_words |= {key: words.of(PERSON, key) for key in ("all_verified", "some_unproven")}
    return Written(f"{words.of(PERSON, 'title')} · {export.site}", words.language, body, script_words)


@dataclass(frozen=True)
class _Page:
    """Whom the page is for, and what it is about."""

    words: Words
    language: str
    export: PersonExport
    document: SiteDocument | None

    def say(self, key: str) -> str:
        return self.words.of(PERSON, key)

    def head(self) -> Html:
        return el(
            "header",
            el("p", self.export.site, class_="site"),
            el("h1", self.say("title")),
            el("p", self.say("lead"), class_="lead"),
            el("p", self.words["pseudonymous"], " ", el("code", self.export.visitor), class_="fine"),
            el(
                "p",
                el("strong", self.words["unchecked"], id="verdict", class_="verdict", data_verdict="unchecked"),
                el("span", join((self.words["printed"], _time(self.export.exported_at)), " "), class_="fine"),
                class_="status",
            ),
            el("p", "", id="reason", role="status"),
        )

    def standing(self) -> Html:
        heads = (self.words["purpose"], self.words["answer"], self.say("why"), self.words["until"])
        rows = [
            el(
                "tr",
                el("th", self._title(purpose), scope="row"),
                el("td", self._chip(decision.decision)),
                el("td", self.words.of(REASONS, decision.reason)),
                el("td", _time(decision.valid_until) if decision.valid_until else "\N{EM DASH}"),
            )
            for purpose, decision in self.export.consent.decisions.items()
        ]
        return self._section("now", self.say("now"), heads, rows)

    def history(self) -> Html:
        heads = (self.words["entry"], self.words["when"], self.words["choice"], self.say("checked"))
        return self._section(
            "timeline", self.words["timeline"], heads, [self._event(one) for one in self.export.events]
        )

    def requests(self) -> Html:
        heads = (self.say("kind"), self.say("state"), self.say("received"), self.say("due"))
        rows = [
            el(
                "tr",
                el("th", self.words.of(KINDS, one.kind), scope="row"),
                el("td", self.words.of(STATES, one.state)),
                el("td", _time(one.received_at)),
                el("td", _time(one.due_at)),
            )
            for one in self.export.requests
        ]
        return self._section("requests", self.say("requests"), heads, rows)

    def restrictions(self) -> Html | None:
        heads = (self.say("state"), self.say("received"))
        rows = [
            el("tr", el("th", self.words.of(STATES, one.state), scope="row"), el("td", _time(one.requested_at)))
            for one in self.export.restrictions
        ]
        return self._section("restrictions", self.say("restrictions"), heads, rows) if rows else None

    def proof(self) -> Html:
        data = msgspec.json.format(msgspec.json.encode(self.export), indent=1).decode()
        key = self.export.log_vkey
        return el(
            "section",
            el("h2", self.words["proof"], id="proof-title"),
            el(
                "div",
                el("label", self.words["log_key"], for_="log-vkey"),
                el("textarea", key, id="log-vkey", rows="2", spellcheck="false", autocomplete="off"),
                el("p", self.words["key_caution"], class_="fine"),
                el("p", el("button", self.words["check_again"], id="again", type="button", class_="screen-only")),
                class_="checking",
            ),
            el("p", self.words["not_proven_by_it"], class_="fine"),
            el("h3", self.say("data")),
            el("p", self.say("data_text"), class_="fine"),
            el("pre", data, id="export"),
            class_="proof",
            aria_labelledby="proof-title",
        )

    def _event(self, one: PersonEvent) -> Html:
        event = one.event
        what = [el("strong", self.words.of(EVENTS, event.type))]
        if event.action is not None:
            what.append(el("span", self.words.of(ACTIONS, event.action), class_="fine"))
        if facts.is_about_account(event):
            what.append(el("span", self.words["account"], class_="fine"))
        chosen = [
            el("span", self._title(purpose), " ", self._chip(answer))
            for purpose, answer in sorted(event.decisions.items())
        ]
        return el(
            "tr",
            el("th", str(one.seq), scope="row"),
            el("td", _time(one.recorded_at)),
            el("td", join(what, "<br>"), el("div", *chosen, class_="chips")),
            el("td", self.words["not_checked"], data_seq=str(one.seq)),
        )

    def _title(self, purpose: str) -> str:
        if purpose == ANY_PURPOSE:
            return self.words["everything_optional"]
        terms = None if self.document is None else self.document.purposes.get(purpose)
        if terms is None or self.document is None:
            return purpose
        return facts.text_in(terms.title, self.language, self.document.languages) or purpose

    def _chip(self, answer: str) -> Html:
        granted = answer == "granted"
        return el(
            "span", self.words["granted" if granted else "denied"], class_="chip granted" if granted else "chip denied"
        )

    def _section(self, name: str, title: str, heads: Iterable[str], rows: list[Html]) -> Html:
        inside = table(heads, rows, name) if rows else el("p", self.say("nothing"))
        return el("section", el("h2", title, id=f"{name}-title"), inside, class_=name, aria_labelledby=f"{name}-title")


def _time(encoded: str) -> Html:
    return el("time", f"{encoded[:10]} {encoded[11:19]} UTC", datetime=encoded)
