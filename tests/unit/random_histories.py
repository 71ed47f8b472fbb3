"""Random sites and what their visitors did, for properties: policies, events, links, marks, and a question."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import NamedTuple

import msgspec
from hypothesis import strategies as st

from ledger.core.decide import (
    Mark,
    Recorded,
)
from ledger.core.document import Controller, PolicyVersion, Purpose, ReaskAfter, SiteDocument
from ledger.core.duration import DAY_MS, Duration, parse_duration
from ledger.core.encoding import encode_time
from ledger.core.event import Answer, Event
from ledger.core.policy import PolicyHistory, Published
from ledger.core.regions import Regime
from tests.devices import stored
from tests.unit.naive_replay import Question

START_MS = 1_769_817_600_000  # 2026-01-31, so that months have ends to be cut to
PURPOSES = ("a", "o", "b", "n", "t", "never-offered")
"""`a` goes on with `o` in some versions, `n` is required, `t` an attestation that others may need."""
REGIMES: tuple[Regime, ...] = ("opt-in", "opt-out", "exempt")
REGIONS = (None, "KZ", "US")  # the naive replay knows exact countries only
MATERIAL: tuple[bool | tuple[str, ...], ...] = (True, *[False] * 8, ("a",))
ME, OTHER = "v" * 22, "w" * 22
ACCOUNTS = ("1" * 32, "2" * 32)
SEEDS = st.integers(0, 2**64 - 1)
"""Histories are drawn from a seeded generator, not member by member: it is a hundred times faster."""


def period(text: str) -> Duration:
    duration = parse_duration(text)
    assert duration is not None
    return duration


PERIODS = tuple(map(period, ("P1M", "P2M", "P4M", "P4M", "P12M", "P12M", "P30D", "P1D")))


def day(draw: Random, first: int = 0, last: int = 40) -> int:
    """A time in half weeks, so that ties are frequent."""
    return START_MS + draw.randint(first, last) * 7 * DAY_MS // 2


def regimes(draw: Random, *keys: str) -> dict[str, Regime]:
    return {key: draw.choice(REGIMES) for key in keys if draw.random() < 0.5}


def reask(draw: Random) -> ReaskAfter:
    return ReaskAfter(*(draw.choice((None, *PERIODS)) for _ in range(3)))


def random_purpose(draw: Random, name: str, needs: tuple[str, ...] = (), alias_of: str | None = None) -> Purpose:
    return Purpose(
        title={"en": name},
        description={"en": name},
        kind="attestation" if name == "t" else "consent",
        required=name == "n",
        in_use=draw.random() < 0.8,
        alias_of=alias_of,
        removed_in="x" if draw.random() < 0.02 else None,
        regimes=regimes(draw, "default", "KZ"),
        renew_after=draw.choice((None, *PERIODS)),
        reask_after=reask(draw) if draw.random() < 0.2 else None,
        withdrawable=draw.random() < 0.5,
        needs=needs,
    )


def random_policies(draw: Random) -> tuple[Published, ...]:
    count = draw.choice((0, *[1, 2, 2, 3, 3, 4, 4] * 2))
    seqs = sorted([draw.randint(0, 3), *draw.sample(range(4, 13), max(count - 1, 0))][:count])
    times = sorted([day(draw, -8, 0), *(day(draw, -8, 25) for _ in range(count - 1))][:count])
    return tuple(
        Published(seq, published_ms, b"", random_document(draw, str(index)))
        for index, (seq, published_ms) in enumerate(zip(seqs, times, strict=True))
    )


def random_document(draw: Random, version: str) -> SiteDocument:
    names = draw.choice(["abn", "abnt", "abnt", "abnt", "abnt", "abnt", "bnt", "obnt"])
    needs = ("t",) if "t" in names and draw.random() < 0.5 else ()
    purposes = {name: random_purpose(draw, name, needs if name != "t" else ()) for name in names}
    if "a" in names and draw.random() < 0.4:
        purposes["a"] = msgspec.structs.replace(purposes["a"], alias_of="o")
        if draw.random() < 0.9:
            purposes["o"] = msgspec.structs.replace(random_purpose(draw, "o"), removed_in=version)
    return SiteDocument(
        site="site.example",
        controller=Controller(name="c"),
        languages=("en",),
        origins=("https://site.example",),
        policy=PolicyVersion(
            version=version,
            effective_at=encode_time(day(draw, -90, draw.choice((-8, 25)))),
            url="https://site.example/",
            material=draw.choice(MATERIAL),
            not_material=dict.fromkeys(purposes, "so the lawyers say") if draw.random() < 0.8 else {},
        ),
        purposes=purposes,
        renew_after=draw.choice(PERIODS),
        reask_after=reask(draw),
        reask_after_in={region: reask(draw) for region in ("KZ", "US") if draw.random() < 0.2},
        regimes=regimes(draw, "default", "US"),
        announce_changes=draw.choice(("posted", "first-visit")),
    )


def loosened(published: Sequence[Published], at_ms: int) -> PolicyHistory:
    """The versions, opt-in everywhere and with every denial remembered, and one more by which silence grants from then
    on."""
    strict = [
        entry._replace(document=_under(entry.document, "opt-in", suppress_for=period("P3Y"))) for entry in published
    ]
    last = PolicyHistory(tuple(strict)).in_effect_order[-1].document
    effective = msgspec.structs.replace(last.policy, version="later", effective_at=encode_time(at_ms))
    return PolicyHistory((*strict, Published(1000, at_ms, b"", _under(last, "opt-out", policy=effective))))


def _under(document: SiteDocument, regime: Regime, **changes: object) -> SiteDocument:
    purposes = {name: msgspec.structs.replace(each, regimes={}) for name, each in document.purposes.items()}
    return msgspec.structs.replace(document, purposes=purposes, regimes={"default": regime}, **changes)


class Case(NamedTuple):
    """`events` are the visitor's, `accounts` those of two accounts, made in this browser or in another."""

    published: tuple[Published, ...]
    events: list[Recorded]
    accounts: dict[str, list[Recorded]]
    purpose: str
    ask: Question


class Story(NamedTuple):
    """What was recorded of one visitor and two accounts, and the seqs that no entry has."""

    events: list[Recorded]
    accounts: dict[str, list[Recorded]]
    unused: list[int]


def random_story(draw: Random, names: Sequence[str] = PURPOSES) -> Story:
    story = Story([], {account: [] for account in ACCOUNTS}, [])
    linking = draw.random() < 0.5
    times = sorted(day(draw) for _ in range(draw.randint(0, 12 if linking else 7)))
    for seq, recorded_ms in enumerate(times, 3):
        where = draw.random() if linking else 0.9
        if where < 0.25:
            linked = draw.choice(("account.linked", "account.linked", "account.unlinked"))
            told = random_event(draw, seq, (), type=linked, account=draw.choice((*ACCOUNTS, ACCOUNTS[0], ACCOUNTS[0])))
            story.events.append(stored(seq, recorded_ms, told))
        elif where < 0.6:
            account = draw.choice((*ACCOUNTS, ACCOUNTS[0]))
            told = random_event(draw, seq, names, account=account, visitor=draw.choice((ME, OTHER)))
            story.accounts[account].append(stored(seq, recorded_ms, told))
        elif draw.random() < 0.1:
            story.unused.append(seq)
        elif draw.random() < 0.15:
            told = random_event(draw, seq, (), type=draw.choice(("consent.dismissed", "notice.seen")))
            story.events.append(stored(seq, recorded_ms, told))
        else:
            story.events.append(stored(seq, recorded_ms, random_event(draw, seq, names)))
    return story


def random_history(draw: Random, names: Sequence[str] = PURPOSES) -> list[Recorded]:
    return random_story(draw, names).events


def random_event(draw: Random, seq: int, names: Sequence[str], **members: str | None) -> Event:
    """With `names` a choice about some of them."""
    decisions: dict[str, Answer] = {}
    if names:
        answers: tuple[Answer, ...] = draw.choice([("granted", "denied"), ("granted",), ("granted",), ("denied",)])
        decisions = {name: draw.choice(answers) for name in draw.sample(names, draw.randint(0, 3))}
        if not decisions or draw.random() < 0.1:
            decisions["*"] = "denied"
    clocks = draw.choice(["none", "occurred", "sent", "both", "both"])
    action = draw.choice(("customize", "customize", "gpc", "import", "guardian"))
    known: dict[str, object] = {
        "id": str(seq),
        "site": "site.example",
        "type": "consent.given" if "granted" in decisions.values() else "consent.refused",
        "visitor": ME,
        "decisions": decisions,
        "action": action if names else None,
        "policy_version": draw.choice((None, *["0", "0", "0", "1", "1", "2", "3"] * 2)),
        "region": draw.choice(REGIONS),
        "gpc": draw.random() < 0.5,
        "conditional": draw.random() < 0.1,
        "occurred_at": encode_time(day(draw)) if clocks in ("occurred", "both") else None,
        "sent_at": encode_time(day(draw)) if clocks in ("sent", "both") else None,
    }
    return Event(**(known | members))  # type: ignore[arg-type]


def random_marks(draw: Random, unused: list[int]) -> tuple[Mark, ...]:
    """With seqs that no entry has, so that no tie is left to chance."""
    seqs = [*unused, *range(100, 103)]
    return tuple(
        Mark(draw.choice(("*", "a", "b", "o")), day(draw), draw.choice((None, day(draw))), seqs[index])
        for index in range(draw.randint(1, 3))
    )


def random_case(seed: int, names: Sequence[str] = PURPOSES) -> Case:
    draw = Random(seed)
    published, story = random_policies(draw), random_story(draw, names)
    purpose = draw.choice((*names, *"aaaaaaaaabbbbbt"))
    ask = Question(
        at_ms=day(draw, 0, 60),
        region=draw.choice(REGIONS),
        gpc=draw.random() < 0.2,
        known_seq=draw.choice((None, None, None, draw.randint(3, 12))),
        marks=random_marks(draw, story.unused) if draw.random() < 0.15 else (),
    )
    return Case(published, story.events, story.accounts, purpose, ask)


CASES = st.builds(random_case, SEEDS)
HISTORIES = st.builds(lambda seed: random_history(Random(seed)), SEEDS)
STORIES = st.builds(lambda seed: random_story(Random(seed)), SEEDS)
