"""Every clause that concerns consent, held by the example sites: the facts they state, the answers at each moment."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

import ledger
from ledger.core.decide import Outcome, Recorded, decide_history
from ledger.core.document import SiteDocument
from ledger.core.document_reader import read_document
from ledger.core.encoding import decode_time, encode_time
from ledger.core.errors import InputRefused
from ledger.core.event import Event, EventInput, parse_input
from ledger.core.policy import PolicyHistory, Published, encode_document, parse_site_document
from ledger.core.source import read_source
from tests.devices import stored
from tests.unit.clauses_of_decisions import MOMENTS, Asked, Moments, Said
from tests.unit.clauses_of_documents import FACTS, Fact
from tests.unit.clauses_of_operations import SHOWN

CLAUSES = {
    *(f"W{n}" for n in range(1, 13)),
    *("D0", "D1", "D3", "D4", "D6", "D7", "D8", "D12", "D13", "D14", "D15"),
    *(f"N{n}" for n in range(1, 8)),
    *("N9", "N10", "N11", "N12"),
    *(f"C{n}" for n in range(1, 9)),
    *(f"K{n}" for n in range(1, 5)),
    *("E1", "E2", "E3"),
}
SITES = Path(ledger.__file__).parent / "sites"


def day_ms(day: str) -> int:
    return decode_time(f"{day}T00:00:00.000Z")


@cache
def document(site: str) -> SiteDocument:
    return parse_site_document((SITES / f"{site}.yaml").read_bytes())


def published(seq: int, ms: int, version: SiteDocument) -> Published:
    return Published(seq, ms, hashlib.sha256(encode_document(version)).digest(), version)


def policies(case: Moments) -> PolicyHistory:
    """Version 1.0 on the day that it names, and every further version on its day, each an edit of 1.0."""
    first = document(case.site)
    entries = [published(1, first.effective_ms, first)]
    for seq, version in enumerate(case.versions, 2):
        source = cast(dict[str, Any], read_source((SITES / f"{case.site}.yaml").read_bytes()))
        source["policy"] |= {"version": version.number, "effectiveAt": version.day}
        version.edit(source)
        entries.append(published(seq, day_ms(version.day), read_document(source)))
    return PolicyHistory(tuple(entries))


def recorded(seq: int, said: Said, site: str) -> Recorded:
    prefix = {"linked": "account", "unlinked": "account", "seen": "notice"}.get(said.kind, "consent")
    event = Event(
        id=f"01980000-0000-7000-8000-{seq:012x}",
        site=site,
        type=cast(Any, f"{prefix}.{said.kind}"),
        visitor=said.device.replace(" ", "-").ljust(22, "_"),
        decisions=cast(Any, dict(answer.split("=") for answer in said.answers.split())),
        action=cast(Any, said.action) if prefix == "consent" else None,
        authentication="secret",
        policy_version=said.version,
        region=said.region,
        account=said.account,
        shown=said.shown,
        gpc=said.gpc,
    )
    return stored(seq, day_ms(said.day), event)


def answer(case: Moments, asked: Asked) -> Outcome:
    own: list[Recorded] = []
    of_accounts: dict[str, list[Recorded]] = {}
    for seq, said in enumerate(sorted(case.said, key=lambda one: one.day), 10):
        if said.account is not None and said.kind not in ("linked", "unlinked"):
            of_accounts.setdefault(said.account, []).append(recorded(seq, said, case.site))
        elif said.device == asked.device:
            own.append(recorded(seq, said, case.site))
    return decide_history(
        policies(case),
        own,
        asked.purpose,
        at_ms=day_ms(asked.day),
        region=asked.region,
        gpc=asked.gpc,
        account_events=of_accounts,
    )


def test_every_clause_has_a_row_or_a_class_of_its_own() -> None:
    classes = {name.removeprefix("Test") for name in globals() if name.startswith("Test")}
    assert {one.clause for one in FACTS} | {one.clause for one in MOMENTS} | classes | SHOWN.keys() == CLAUSES


@pytest.mark.parametrize(("clause", "shown"), SHOWN.items(), ids=list(SHOWN))
def test_what_shows_a_clause_of_operation_is_there(clause: str, shown: tuple[str, ...]) -> None:
    for name in shown:
        path, _, test = name.partition("::")
        source = (Path(__file__).parents[1] / path).read_text("utf-8")
        assert f"def {test}(" in source if test else "def test_" in source, f"{clause}: {name} is not there"


@pytest.mark.parametrize("fact", FACTS, ids=lambda fact: f"{fact.clause} {fact.site} {fact.says}")
def test_the_site_document_says_so(fact: Fact) -> None:
    assert fact.holds(document(fact.site))


@pytest.mark.parametrize("case", MOMENTS, ids=lambda case: f"{case.clause} {case.says}")
def test_the_answers_are_what_the_clause_asks_for(case: Moments) -> None:
    for asked in case.asked:
        outcome = answer(case, asked)
        told = (
            f"{outcome.decision} {outcome.reason}",
            outcome.ask if asked.ask is not None else None,
            outcome.notify if asked.notify is not None else None,
            asked.until and encode_time(outcome.valid_until_ms or 0)[:10],
        )
        assert told == (asked.answer, asked.ask, asked.notify, asked.until), asked


class TestD15:
    def test_an_event_has_no_room_for_free_text(self) -> None:
        body = {"type": "consent.refused", "visitor": "v" * 22, "decisions": {"*": "denied"}, "action": "settings"}
        assert parse_input(msgspec.json.encode(body))
        for member, value in {
            "comment": "I have an allergy",
            "action": "because I have an allergy",
            "component": "the button beside my diagnosis",
            "language": "I speak English",
            "shown": "the blue banner",
            "policyVersion": "x" * 65,
            "tcString": "my diagnosis is",
            "account": "two words",
        }.items():
            with pytest.raises(InputRefused):
                parse_input(msgspec.json.encode({**body, member: value}))


class TestC7:
    @pytest.mark.parametrize("kind", [Event, EventInput], ids=["stored", "posted"])
    def test_an_event_has_no_room_for_an_address_of_a_machine(self, kind: type[Event | EventInput]) -> None:
        assert not {"ip", "ip_address", "address", "remote", "user_agent"} & set(kind.__struct_fields__)
