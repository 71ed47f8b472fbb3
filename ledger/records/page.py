"""A record of consent as a page for people: what was asked and answered, what was shown, all that followed, the proof.

Gives the page's body; its frame, style and script are the web's (ledger/web/record.html). It can be read without a
script, and printed. Parts of it are in page_tables and page_notice.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from ledger.core.document import Controller, SiteDocument
from ledger.core.encoding import encode_time
from ledger.records import facts
from ledger.records.dossier import Dossier
from ledger.records.facts import Answered
from ledger.records.markup import EMPTY, Html, el, join, link
from ledger.records.page_notice import notice
from ledger.records.page_tables import Reader, answers, cookies, timeline
from ledger.records.terms import ACTIONS, CHECKS, EVENTS
from ledger.records.words import Words

COMMAND = "consent-ledger receipt verify receipt.json --log-vkey …"


class Written(NamedTuple):
    """The body's markup, its title and language, and the words that the page's script needs."""

    title: str
    language: str
    body: Html
    script_words: dict[str, object]


def write(dossier: Dossier, asked: str | None = None) -> Written:
    """The page in a language: the one asked for, else the visitor's, else the site's first."""
    reader = Reader(Words(facts.language_of(dossier, asked)), facts.language_of(dossier, asked), dossier)
    words, found = reader.words, facts.answers(dossier)
    body = join(
        (
            _head(reader),
            _glance(reader, found),
            answers(reader, found),
            notice(reader),
            cookies(reader, found),
            _rights(reader, found),
            timeline(reader),
            _proof(reader),
        ),
        "\n",
    )
    script_words: dict[str, object] = {
        key: words[key]
        for key in ("verified", "failed", "unproven", "unable", "verified_text", "ok", "not_checked", "broken",
                    "recorded", "policy", "place", "subject", "choice", "happened")
    }  # fmt: skip
    script_words["checks"] = words.table(CHECKS)
    return Written(f"{words['title']} · {dossier.receipt.site}", words.language, body, script_words)


def _head(reader: Reader) -> Html:
    words, dossier = reader.words, reader.dossier
    return el(
        "header",
        el("p", dossier.receipt.site, class_="site"),
        el("h1", words["title"]),
        el("p", words["lead"], class_="lead"),
        el(
            "p",
            el("strong", words["unchecked"], id="verdict", class_="verdict", data_verdict="unchecked"),
            el("span", f"{words['entry']} {dossier.receipt.seq}", class_="fine"),
            el("span", join((words["printed"], reader.time(encode_time(dossier.generated_ms))), " "), class_="fine"),
            class_="status",
        ),
    )


# --- at a glance ------------------------------------------------------------------------------------------------------


def _glance(reader: Reader, found: tuple[Answered, ...]) -> Html:
    words, dossier = reader.words, reader.dossier
    event, document = dossier.event, dossier.document
    concerned = facts.concerned(found)
    rows: list[tuple[str, Html | str | None]] = [
        (
            words["operator"],
            _operator(reader, Controller(name=event.site) if document is None else document.controller),
        ),
        (words["subject"], _subject(reader)),
        (words["happened"], _happened(reader)),
        (words["counts"], reader.time(facts.event_time(dossier, found[0] if found else None))),
        (words["recorded"], join((reader.time(dossier.receipt.recorded_at), " ", _fine(words["by_ledger"])))),
        (words["place"], " · ".join(part for part in (event.region, event.language) if part) or words["not_stated"]),
        (words["policy"], _policy(reader)),
    ]
    if found:
        rows.append((words["term"], _term(reader, concerned)))
    if document is not None and found:
        rows += _law_of_kazakhstan(reader, document, concerned)
        laws = tuple(dict.fromkeys((*document.laws, *(law for a in concerned if a.terms for law in a.terms.laws))))
        rows.append((words["laws"], reader.lines(laws) if laws else None))
    rows.append((words["signals"], _signals(reader)))
    rows.append((words["original"], el("pre", event.original) if event.original else None))
    table = el(
        "dl",
        join([el("div", el("dt", name), el("dd", value)) for name, value in rows if value]),
        class_="glance",
    )
    about = None
    if document is not None and found:
        about = words["facts_of_granted"] if concerned[0].granted else words["facts_of_asked"]
    return reader.section("glance", table, el("p", about, class_="fine") if about else None)


def _law_of_kazakhstan(
    reader: Reader, document: SiteDocument, concerned: tuple[Answered, ...]
) -> list[tuple[str, Html | str | None]]:
    """What Law 94-V, article 8 wants a consent to name, beside operator, subject and term."""
    words = reader.words
    named = facts.recipients(concerned)
    third = [el("strong", reader.yes_no(facts.has_third_parties(concerned)))]
    third += [el("span", ": " + ", ".join(one.name for one in named))] if named else []
    crosses = facts.crosses_border(document, concerned)
    abroad = [one.region for one in named if one.region and one.region != facts.home_of(document)]
    abroad += [a.terms.destination for a in concerned if a.terms is not None and a.terms.destination]
    border = [el("strong", reader.yes_no(crosses))]
    border += [el("span", ": " + ", ".join(dict.fromkeys(abroad)))] if crosses and abroad else []
    data = tuple(dict.fromkeys(reader.data_of(answered) for answered in concerned))
    return [
        (words["third_parties"], join(third)),
        (words["cross_border"], join(border)),
        (words["publication"], el("strong", reader.yes_no(facts.is_published(concerned)))),
        (words["data"], reader.lines(tuple(data)) if any(data) else words["not_stated"]),
    ]


def _operator(reader: Reader, controller: Controller) -> Html:
    words = reader.words
    rows = [el("strong", controller.name)]
    if controller.bin is not None:
        rows.append(el("span", f"{words['bin']} {controller.bin}"))
    where = ", ".join(part for part in (controller.address, controller.country) if part)
    if where:
        rows.append(el("span", where))
    rows += [link(f"mailto:{controller.email}", controller.email)] if controller.email else []
    rows += [el("span", controller.phone)] if controller.phone else []
    return join(rows, "<br>")


def _subject(reader: Reader) -> Html:
    words, event = reader.words, reader.dossier.event
    parts = [el("span", words["pseudonymous"]), el("code", event.visitor)]
    if facts.is_about_account(event):
        parts += [el("span", words["for_account"]), el("code", str(event.account))]
    return join(parts, "<br>")


def _happened(reader: Reader) -> Html:
    words, event = reader.words, reader.dossier.event
    parts = [el("strong", words.of(EVENTS, event.type))]
    if event.action is not None:
        parts.append(el("span", words.of(ACTIONS, event.action)))
    if event.conditional:
        parts.append(el("strong", words["wall"], class_="caution"))
    return join(parts, "<br>")


def _policy(reader: Reader) -> Html:
    words, dossier = reader.words, reader.dossier
    document = dossier.document
    if document is None:
        return el("span", words["no_policy"])
    parts = [
        join((el("strong", f"{words['version']} {document.version}"), " ", _fine(f"({_standing(reader)})"))),
        link(document.policy.url),
        el("code", f"{words['sha256']} {dossier.document_sha256}"),
    ]
    return join(parts, "<br>")


def _standing(reader: Reader) -> str:
    return reader.words["cited"] if reader.dossier.cited else reader.words["was_in_force"]


def _term(reader: Reader, concerned: tuple[Answered, ...]) -> Html | str:
    """Until when what was allowed holds; a denial holds until the visitor chooses anew."""
    words = reader.words
    ends = sorted(
        answered.after.valid_until
        for answered in concerned
        if answered.granted and answered.after is not None and answered.after.valid_until
    )
    if not ends:
        return words["open_term"]
    return join((words["until"], reader.time(ends[0])), " ")


def _signals(reader: Reader) -> str | None:
    event = reader.dossier.event
    there = {"Global Privacy Control": event.gpc, "IAB TCF": event.tc_string, "IAB GPP": event.gpp_string}
    return ", ".join(name for name, is_there in there.items() if is_there) or None


# --- rights and proof -------------------------------------------------------------------------------------------------


def _rights(reader: Reader, found: Iterable[Answered]) -> Html:
    words, document = reader.words, reader.dossier.document
    rows: list[tuple[str, Html | str]] = [
        (
            words["how_to_withdraw"],
            join(
                (el("span", words["withdraw_text"]), link(document.policy.url) if document is not None else None),
                "<br>",
            ),
        )
    ]
    for answered in found:
        terms = answered.terms
        if terms is not None and not terms.withdrawable:
            title, bar = reader.title_of(answered.purpose), reader.text(terms.withdrawal_bar)
            rows.append((words["barred"], join((el("strong", title), f": {bar}" if bar else None))))
    if document is not None:
        contacts = [
            join((el("span", f"{reader.text(one.about)}: "), _reach(one.email, one.phone, one.url)))
            for one in document.contacts
        ]
        rows += [(words["contacts"], join(contacts, "<br>"))] if contacts else []
        authorities = [
            join((el("span", reader.text(one.name)), " ", link(one.url) if one.url else None))
            for one in document.authorities
        ]
        rows += [(words["authority"], join(authorities, "<br>"))] if authorities else []
        within = facts.by_region(document.answer_within, reader.dossier.event.region)
        rows += [(words["answered_within"], words.period(within))] if within else []
    listed = join([el("div", el("dt", name), el("dd", value)) for name, value in rows])
    return reader.section("rights", el("dl", listed, class_="glance"))


def _reach(email: str | None, phone: str | None, url: str | None) -> Html:
    ways = [link(f"mailto:{email}", email) if email else EMPTY, el("span", phone) if phone else EMPTY]
    return join([way for way in (*ways, link(url) if url else EMPTY) if way], " · ")


def _proof(reader: Reader) -> Html:
    words, dossier = reader.words, reader.dossier
    receipt = dossier.receipt
    pretty = msgspec.json.format(msgspec.json.encode(receipt), indent=1).decode()
    rows: list[tuple[str, Html | str]] = [
        (words["log"], el("code", dossier.log_vkey.partition("+")[0])),
        (words["position"], el("code", receipt.position)),
        (words["leaf"], el("code", receipt.leaf_hash)),
    ]
    if receipt.proof:
        rows.append((words["checkpoint"], el("pre", facts.checkpoint_of(receipt.proof).strip())))
    facts_of_it = el(
        "dl", join([el("div", el("dt", name), el("dd", value)) for name, value in rows]), class_="glance proof"
    )
    return reader.section(
        "proof",
        el("p", words["proof_text"], " ", el("code", COMMAND)),
        el("p", words["no_proof_yet"], class_="caution") if not receipt.proof else None,
        facts_of_it,
        el(
            "div",
            el("label", words["log_key"], for_="log-vkey"),
            el("textarea", dossier.log_vkey, id="log-vkey", rows="2", spellcheck="false", autocomplete="off"),
            el("p", words["key_caution"], class_="fine"),
            el("p", el("button", words["check_again"], id="again", type="button", class_="screen-only")),
            el("p", "", id="reason", role="status"),
            el("ol", "", id="checks"),
            class_="checking",
        ),
        el(
            "div",
            el("h3", words["receipt_says"]),
            el("dl", "", id="says", class_="glance"),
            id="from-receipt",
            hidden="",
        ),
        el("p", words["not_proven_by_it"], class_="fine"),
        el("h3", words["receipt"]),
        el("pre", pretty, id="receipt"),
    )


def _fine(words: str) -> Html:
    return el("span", words, class_="fine")
