"""The way that a request takes: every step from every state by every party, and what a step has to name."""

from __future__ import annotations

from typing import get_args

import msgspec
import pytest

from ledger.core.errors import InputRefused, Malformed
from ledger.core.subject_request import (
    ANSWERS,
    Dates,
    Details,
    Kind,
    Party,
    State,
    Step,
    allowed,
    decode_details,
    encode_details,
    evidence_of,
    take,
)

WAY = {
    ("received", "prove", "visitor"): "proven",
    ("received", "identify", "operator"): "proven",
    ("proven", "forward", "operator"): "forwarded",
    ("proven", "forward", "ledger"): "forwarded",
    ("forwarded", "instruct", "operator"): "instructed",
    ("instructed", "answer", "operator"): "answered",
    ("instructed", "answer", "ledger"): "answered",
    **{(state, "refuse", "operator"): "refused" for state in ("received", "proven", "forwarded", "instructed")},
    **{(state, "extend", "operator"): state for state in ("received", "proven", "forwarded", "instructed")},
}
NEEDED = {
    "instruct": {"instruction": "DSR-1"},
    "refuse": {"instruction": "DSR-1", "reason": "excessive"},
    "extend": {"instruction": "DSR-1", "reason": "complexity"},
}


@pytest.mark.parametrize("state", get_args(State))
@pytest.mark.parametrize("step", get_args(Step))
@pytest.mark.parametrize("by", get_args(Party))
def test_a_step_is_taken_from_its_state_by_its_party_or_refused(state: State, step: Step, by: Party) -> None:
    after = WAY.get((state, step, by))
    if after is not None:
        assert take(state, step, by, **NEEDED.get(step, {})).state == after  # type: ignore[arg-type]
        assert step in allowed(state, by)
        return
    assert step not in allowed(state, by)
    with pytest.raises(InputRefused) as refused:
        take(state, step, by, **NEEDED.get(step, {}))  # type: ignore[arg-type]
    assert refused.value.kind == "request-step-refused"


def test_nothing_leads_on_from_an_end() -> None:
    ends = {state for state in get_args(State) if not any(allowed(state, by) for by in get_args(Party))}
    assert ends == {"answered", "refused"}


@pytest.mark.parametrize(
    ("step", "named", "pointer"),
    [
        ("instruct", {}, "/instruction"),
        ("instruct", {"instruction": "Please delete Mr Smith"}, "/instruction"),
        ("instruct", {"instruction": "x" * 65}, "/instruction"),
        ("instruct", {"instruction": "DSR-1\n"}, "/instruction"),
        ("instruct", {"instruction": "DSR-1", "reason": "excessive"}, "/reason"),
        ("refuse", {"instruction": "DSR-1"}, "/reason"),
        ("refuse", {"reason": "excessive"}, "/instruction"),
        ("refuse", {"instruction": "DSR-1", "reason": "complexity"}, "/reason"),
        ("extend", {"reason": "complexity"}, "/instruction"),
        ("extend", {"instruction": "DSR-1"}, "/reason"),
        ("extend", {"instruction": "DSR-1", "reason": "excessive"}, "/reason"),
        ("extend", {"instruction": "We are rather busy", "reason": "complexity"}, "/instruction"),
    ],
)
def test_nothing_is_answered_refused_or_put_off_but_on_an_instruction(
    step: Step, named: dict[str, str], pointer: str
) -> None:
    with pytest.raises(InputRefused) as refused:
        take("forwarded", step, "operator", **named)  # type: ignore[arg-type]
    assert (refused.value.kind, refused.value.pointer) == ("invalid-request", pointer)


DUE, LATEST = 1_000, 3_000


def test_an_answer_is_put_off_before_it_is_due_and_as_far_as_there_is_room() -> None:
    dates = Dates(DUE, None, LATEST)
    assert dates.extended(None, DUE) == LATEST
    assert [dates.extended(until, 0) for until in (DUE + 1, LATEST)] == [DUE + 1, LATEST]
    for until in (0, DUE, LATEST + 1):
        with pytest.raises(InputRefused) as refused:
            dates.extended(until, 0)
        assert (refused.value.kind, refused.value.pointer) == ("invalid-request", "/until")


@pytest.mark.parametrize(
    ("dates", "now_ms", "why"),
    [
        (Dates(DUE, None, LATEST), DUE + 1, "had to be told by then"),
        (Dates(DUE, DUE - 1, LATEST), 0, "that is done once"),
        (Dates(DUE, None, None), 0, "no room"),
    ],
    ids=["late", "again", "no room"],
)
def test_an_answer_is_not_put_off_late_or_again_or_without_room(dates: Dates, now_ms: int, why: str) -> None:
    with pytest.raises(InputRefused, match=why) as refused:
        dates.extended(None, now_ms)
    assert refused.value.kind == "request-step-refused"


def test_every_kind_has_its_answer() -> None:
    assert set(ANSWERS) == set(get_args(Kind))


def test_the_evidence_fits_the_details_alone() -> None:
    details = Details(
        site="a.example",
        id="01980000-0000-4000-8000-000000000001",
        kind="access",
        received_at="2026-11-21T10:00:00.000Z",
        salt="00" * 32,
        visitor="v" * 43,
    )
    encoded = encode_details(details)
    assert decode_details(encoded) == details
    for other in ({"salt": "01" * 32}, {"kind": "erasure"}, {"visitor": None}):
        assert evidence_of(encode_details(msgspec.structs.replace(details, **other))) != evidence_of(encoded)
    for broken in (b"", b"{}", encoded + b" ", encoded.replace(b'"kind":"access",', b'"kind":"access","more":1,')):
        with pytest.raises(Malformed):
            decode_details(broken)
