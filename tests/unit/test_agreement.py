"""Sign or refuse, by what every place that knows the last checkpoint says."""

from __future__ import annotations

import itertools

import pytest

from ledger.core.agreement import (
    ANCHOR,
    DATABASE,
    MEMORY,
    NATS,
    Agrees,
    Ahead,
    Disagrees,
    Go,
    Nothing,
    Refuse,
    Said,
    Unreachable,
    compare,
    decide,
    read_record,
    stream_said,
)
from ledger.core.keys import KeySet, decode_genesis
from ledger.core.note import Checkpoint
from tests.logbuilder import ORIGIN, LogBuilder, key

PLACES = (MEMORY, ANCHOR, DATABASE, NATS)
SIZE = 50


def everybody(said: Said, **others: Said) -> dict[str, Said]:
    return dict.fromkeys(PLACES, said) | others


def test_when_everybody_agrees_it_is_signed() -> None:
    assert decide(everybody(Agrees(40)), SIZE) == Go((), 40)


def test_a_place_that_is_behind_agrees_all_the_same() -> None:
    assert decide(everybody(Agrees(40), nats=Agrees(7), database=Agrees(39)), SIZE) == Go((), 40)


def test_before_the_first_checkpoint_nobody_knows_anything() -> None:
    assert decide(everybody(Nothing(lost=True)), 1) == Go((), 0)


@pytest.mark.parametrize("known", list(itertools.product([Agrees(1), Nothing(lost=True)], repeat=4)))
def test_first_records_that_are_not_all_made_yet_are_no_loss(known: tuple[Said, ...]) -> None:
    assert isinstance(decide(dict(zip(PLACES, known, strict=True)), 5), Go)


@pytest.mark.parametrize("place", [*PLACES, "witness w1"])
def test_whoever_knows_a_longer_log_stops_the_signing(place: str) -> None:
    verdict = decide(everybody(Agrees(40)) | {place: Ahead(60)}, SIZE)
    assert isinstance(verdict, Refuse)
    assert verdict.reason == f"{place}-ahead"


@pytest.mark.parametrize("place", [*PLACES, "witness w1"])
def test_whoever_disagrees_stops_the_signing(place: str) -> None:
    verdict = decide(everybody(Agrees(40)) | {place: Disagrees("another root")}, SIZE)
    assert isinstance(verdict, Refuse)
    assert verdict.reason == f"{place}-disagrees"


@pytest.mark.parametrize("place", [ANCHOR, DATABASE, NATS])
def test_who_answers_and_has_lost_its_record_stops_the_signing(place: str) -> None:
    verdict = decide(everybody(Agrees(2)) | {place: Nothing(lost=True)}, SIZE)
    assert isinstance(verdict, Refuse)
    assert verdict.reason == f"{place}-lost"
    assert f"restore-record SITE --to {place}" in verdict.detail


def test_a_memory_that_was_made_anew_is_no_loss_and_neither_is_a_place_that_never_had_a_record() -> None:
    assert decide(everybody(Agrees(2), memory=Nothing(lost=False), nats=Nothing(lost=False)), SIZE) == Go((), 2)


@pytest.mark.parametrize("place", PLACES)
def test_a_place_that_cannot_be_reached_is_an_alarm_and_no_more(place: str) -> None:
    assert decide(everybody(Agrees(40)) | {place: Unreachable("gone")}, SIZE) == Go((place,), 40)


def test_without_memory_and_anchor_nothing_is_signed() -> None:
    said = everybody(Agrees(40), memory=Nothing(lost=False), anchor=Unreachable("disk"))
    verdict = decide(said, SIZE)
    assert isinstance(verdict, Refuse)
    assert verdict.reason == "no-anchor"
    assert isinstance(decide(said | {MEMORY: Agrees(40)}, SIZE), Go)


@pytest.mark.parametrize("away", [ANCHOR, NATS, "witness w1"])
@pytest.mark.parametrize("database", [Agrees(1), Nothing(lost=True)])
def test_a_log_that_this_machine_does_not_know_waits_until_everybody_was_asked(away: str, database: Said) -> None:
    said = everybody(Nothing(lost=True), database=database)
    verdict = decide(said | {away: Unreachable("gone")}, SIZE)
    assert isinstance(verdict, Refuse)
    assert (verdict.reason, away in verdict.detail) == ("not-all-asked", True)
    assert isinstance(decide(said, SIZE), Go)
    assert isinstance(decide(said | {away: Unreachable("gone")}, 1), Go), "a log that is founded just now"
    assert isinstance(decide(said | {away: Unreachable("gone"), MEMORY: Agrees(1)}, SIZE), Go)


def test_whatever_else_is_said_ahead_and_disagreement_are_never_outvoted() -> None:
    kinds: list[Said] = [
        Agrees(40),
        Nothing(lost=True),
        Nothing(lost=False),
        Unreachable("x"),
        Ahead(51),
        Disagrees("x"),
    ]
    for combination in itertools.product(kinds, repeat=4):
        verdict = decide(dict(zip(PLACES, combination, strict=True)), SIZE)
        bad = any(isinstance(said, Ahead | Disagrees) for said in combination)
        lost = any(isinstance(s, Nothing) and s.lost for p, s in zip(PLACES, combination, strict=True) if p != MEMORY)
        known = any(isinstance(said, Agrees) for said in combination)
        kept = Agrees(40) in combination[:2]
        asked = not any(isinstance(said, Unreachable) for said in combination)
        assert isinstance(verdict, Go) == (not bad and ((not known and asked) or (kept and not lost)))


def log_and_keys() -> tuple[LogBuilder, KeySet]:
    log = LogBuilder()
    log.policy()
    log.events(5)
    return log, KeySet(ORIGIN, log.log_id, decode_genesis(log.genesis_public(), ORIGIN))


def test_a_record_counts_only_if_a_key_of_this_log_signed_it() -> None:
    log, keys = log_and_keys()
    good = log.checkpoint(4)
    assert read_record(good.encode(), ORIGIN, keys) == good
    forged = log.checkpoint(4, signers=[key("thief")])
    false_line = good._replace(root=bytes(32))
    other = LogBuilder("ledger.example/other.example.com").checkpoint()
    for record in (forged.encode(), false_line.encode(), other.encode(), b"nothing\n"):
        assert isinstance(read_record(record, ORIGIN, keys), Disagrees)


def test_a_record_is_compared_by_its_content() -> None:
    log, _ = log_and_keys()
    checkpoint = log.checkpoint(4)
    assert compare(checkpoint, 7, log.root_hash(4)) == Agrees(4)
    assert compare(checkpoint, 3, None) == Ahead(4)
    assert isinstance(compare(Checkpoint(ORIGIN, 4, bytes(32)), 7, log.root_hash(4)), Disagrees)


def test_a_stream_beyond_the_log_holds_entries_that_were_lost() -> None:
    assert stream_said(6, 7, [(b"e", b"e")]) is None
    assert stream_said(6, 7, [(None, b"e")]) is None
    assert stream_said(0, 1, []) is None
    ahead, other = stream_said(7, 7, []), stream_said(6, 7, [(b"x", b"e")])
    assert ahead is not None
    assert other is not None
    assert (ahead.reason, other.reason) == ("stream-ahead", "stream-differs")
    assert "recover SITE --from-stream" in ahead.detail
    assert "Restart no server" in ahead.detail  # those that refuse remember where the log ended
