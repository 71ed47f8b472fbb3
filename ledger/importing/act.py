"""A row becomes an event: what was found in it, as the plan says. Pure; the same row is the same event id in every run.

A word that is not known refuses the whole row, for half of an answer is another answer. Several names of the export
that are one purpose here grant it only together. What the old tool itself no longer counted (a consent that had lapsed
there, a choice that was never made or confirmed) becomes no event.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from ledger.core.encoding import encode_time, encode_uuid
from ledger.core.errors import InputRefused, RowRefused
from ledger.core.event import DENIED, GRANTED, Answer, EventInput, InputType, convert
from ledger.importing.evidence import evidence_of
from ledger.importing.found import Format, Found, has_lapsed, names_of
from ledger.importing.mapping import ANY_VERSION, Plan, Word
from ledger.importing.moment import Moment, read_moment
from ledger.importing.row import Cells, Row, plain
from ledger.importing.visitor import Visitor, visitor_of

_LANGUAGE = re.compile(r"[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8}){0,7}")
_REGION = re.compile(r"[A-Z]{2}(-[A-Z0-9]{1,3})?")
_SIGNAL = re.compile(r"[A-Za-z0-9_.~+/=-]{1,4096}")


class Act(NamedTuple):
    """`removed`: places taken out of the evidence; `visitor`: how its id came about; `overdue`: the purposes of an act
    that is older than the site keeps its records."""

    event: EventInput
    removed: int
    visitor: str
    overdue: tuple[str, ...] = ()


class LeftOut(NamedTuple):
    """A row that was understood, and holds nothing that counts. `kind` is a stable slug."""

    kind: str


class Unmapped(Exception):
    """The row names purposes that the plan does not know."""

    def __init__(self, names: set[str]) -> None:
        self.names = names
        super().__init__()


def act_of(row: Row, form: Format, plan: Plan) -> Act | LeftOut:
    """The event of a row, or why it is none. Raises `RowRefused`, and `Unmapped`, which is the plan's fault."""
    cells = Cells(row.value, names_of(form, plan), row.header)
    found = form.find(cells, row.value, plan)
    if found.set_aside:
        return LeftOut(found.set_aside)
    answers = _answers(found, plan)
    if not answers:
        return LeftOut("nothing-asked")
    moment = read_moment(found.time, plan.zone, plan.form)
    lapsed = "granted" in answers.values() and has_lapsed(found.valid_until, plan)
    unkept: Word | None = "none" if lapsed else found.forced
    decisions, kind = _decisions({n: unkept if unkept and w == "granted" else w for n, w in answers.items()}, plan)
    if not decisions:
        return LeftOut("lapsed" if lapsed else "not-in-force" if found.forced else "no-choice")
    visitor = visitor_of(found.visitor, plan.site, plan.visitor_key, keep=plan.keep_visitors)
    place = cells.place("visitor")
    secret = [*plan.remove, *([place] if visitor.how == "keyed" and place else [])]
    evidence = evidence_of(row, secret)
    event = EventInput(
        id=_event_id(found, visitor, answers, plan),
        type=kind,
        visitor=visitor.id,
        decisions=decisions,
        action="import",
        policy_version=_version(found, plan, grants=kind == "consent.given"),
        language=_fitting(_LANGUAGE, (found.language or plan.language or "").replace("_", "-")),
        region=_fitting(_REGION, found.region.replace("_", "-").upper()),
        gpc=plan.words.get(plain(found.gpc)) == "granted",
        tc_string=_fitting(_SIGNAL, found.tc_string),
        original=evidence.text,
        occurred_at=encode_time(_when(moment, kind)),
    )
    overdue = () if plan.overdue is None else plan.overdue.purposes(event)
    return Act(_checked(event), evidence.removed, visitor.how, overdue)


def _checked(event: EventInput) -> EventInput:
    """Held against the very schema that the server will hold it against."""
    try:
        return convert(msgspec.to_builtins(event), EventInput)
    except InputRefused as error:
        raise RowRefused(error.kind, f"The event would not be valid at {error.pointer}.") from error


def _answers(found: Found, plan: Plan) -> dict[str, Word]:
    answers: dict[str, Word] = {}
    unmapped: set[str] = set()
    for name, said in found.answers:
        if plain(name) in plan.ignored:
            continue
        if plain(name) not in plan.purposes:
            unmapped.add(name)
            continue
        if plan.required.issuperset(plan.purposes[plain(name)]):
            continue
        word = plan.words.get(plain(said))
        if word is None:
            raise RowRefused("unknown-answer", "The row answers with a word that is none of the known ones.")
        if answers.get(name, word) != word:
            raise RowRefused("two-answers", "The row answers twice for one purpose, and differently.")
        answers[name] = word
    if unmapped:
        raise Unmapped(unmapped)
    return answers


def _decisions(answers: dict[str, Word], plan: Plan) -> tuple[dict[str, Answer], InputType]:
    said: dict[str, set[Word]] = {}
    for name, word in answers.items():
        for purpose in plan.purposes[plain(name)]:
            if word != "none" and purpose not in plan.required:
                said.setdefault(purpose, set()).add(word)
    decisions: dict[str, Answer] = {p: GRANTED if words == {"granted"} else DENIED for p, words in said.items()}
    if GRANTED in decisions.values():
        return decisions, "consent.given"
    withdrawn = any("withdrawn" in words for words in said.values())
    return decisions, "consent.withdrawn" if withdrawn else "consent.refused"


def _when(moment: Moment, kind: InputType) -> int:
    return moment.earliest_ms if kind == "consent.given" else moment.latest_ms


def _version(found: Found, plan: Plan, *, grants: bool) -> str | None:
    version = plan.versions.get(found.version) or plan.versions.get(ANY_VERSION)
    if version is None and grants:
        raise RowRefused(
            "no-policy-version",
            "No published version is named for the row's own version: name it by --policy-version, or in the mapping.",
        )
    return version


def _fitting(pattern: re.Pattern[str], text: str) -> str | None:
    return text if pattern.fullmatch(text) else None


def _event_id(found: Found, visitor: Visitor, answers: Mapping[str, Word], plan: Plan) -> str:
    """A UUID v8 (RFC 9562 section 5.8) of what the row says, not of how it is written or mapped: an export made anew
    is known again, and a row that was changed since is another one. So is every row of another attempt.
    """
    said = [
        plan.site,
        plan.format,
        found.id,
        visitor.id,
        found.time,
        found.forced,
        sorted(answers.items()),
        plan.attempt,
    ]
    digest = hashlib.sha256(b"consent-ledger import\n" + json.dumps(said, ensure_ascii=False).encode()).digest()
    return encode_uuid(digest[:16], 8)
