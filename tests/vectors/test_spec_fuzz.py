"""Whatever bytes come, the parsers of the ledger and those made from SPEC.md alone accept and refuse the same."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import ledger
from ledger.core import entry, note, opening
from ledger.core.admin_act import DETAILS, ActWord, AdminAct, Flag, Role, decode_logged
from ledger.core.errors import LedgerError, Malformed
from ledger.core.event import ErasureRecord, Event, decode_event, decode_payload
from tests.vectors import spec_notes, spec_verifier
from tests.vectors.spec_notes import Fault

WIRE: dict[str, Any] = json.loads((Path(__file__).parents[2] / "proto" / "vectors" / "wire-v1.json").read_text())
EVENT = WIRE["entries"][2]["payload"].encode()
FULL_EVENT = (
    b'{"action":"settings","citedPolicyVersion":"0.9","citedShown":"' + b"0f" * 32 + b'","component":"settings",'
    b'"decisions":{"*":"denied","a.b:c":"denied"},"gpc":true,"id":"01980000-0000-7000-8000-000000000001",'
    b'"language":"zh-Hant-TW","occurredAt":"2024-02-29T23:59:59.999Z","region":"KZ-ALA","sentAt":'
    b'"2026-11-21T03:00:00.000Z","site":"weco.nexaxt.com","type":"consent.withdrawn","visitor":"' + b"v" * 22 + b'"}'
)
COMMON = b'"id":"01980000-0000-7000-8000-000000000001",'
END = b'"visitor":"' + b"v" * 22 + b'"}'
OTHER_EVENTS = [
    b'{"account":"' + b"0f" * 16 + b'","action":"import","authentication":"secret","conditional":true,'
    b'"decisions":{"a":"granted"},"gppString":"DBABMA~CPX.YA=",'
    + COMMON
    + b'"original":"a;\\"\xd0\xb4\\"\\t1","policyVersion":"1.0","site":"x","tcString":"CP+/_-","type":"consent.given",'
    + END,
    b'{"action":"dismiss",' + COMMON + b'"site":"x","type":"consent.dismissed",' + END,
    b"{" + COMMON + b'"site":"x","type":"notice.seen",' + END,
    b'{"account":"' + b"0f" * 16 + b'",' + COMMON + b'"site":"x","type":"account.linked",' + END,
    b'{"account":"' + b"f0" * 16 + b'",' + COMMON + b'"site":"x","type":"account.unlinked",' + END,
    b'{"authentication":"ledger",' + COMMON + b'"lapsed":{"a":7},"site":"x","type":"consent.expired",' + END,
    b'{"authentication":"ledger",' + COMMON + b'"lapsed":{"a":7,"b":9007199254740991},"site":"x",'
    b'"type":"consent.invalidated",' + END,
]
ACTS = [
    b'{"act":"site.added","actor":"ada",' + COMMON + b'"occurredAt":"2026-11-21T03:00:00.000Z","role":"operator",'
    b'"site":"x.admin-log","type":"admin.act"}',
    b'{"act":"erasure.ordered","actor":"\xd0\xb4 [\\"k\\"]","address":"2001:db8::7","details":{"count":"2","reason":'
    b'"retention"},"flagged":"no_legal_basis",'
    + COMMON
    + b'"instruction":"ticket 7","occurredAt":"2026-11-21T03:00:00.000Z","role":"api_key","site":"x.admin-log",'
    b'"type":"admin.act"}',
]
RECORD = WIRE["entries"][8]["payload"].encode()
LINE = b'{"seq":7,"salt":"' + b"A" * 43 + b'=","payload":"e30="}'
PIECES = [
    *(bytes([byte]) for byte in b'\x00\x01\t\n\r "+,-./0179:=AZ\\_az{}\x7f\x80\xff'),
    *(
        piece.encode()
        for piece in ("\u00a0", "\u2028", "\u200d", "\ufeff", "\U0001f36a", "é", "\u0660", "— ", "\u0085")
    ),
    *(b"\\n", b"\\u000a", b"\\u001f", b"\\u001F", b"\\u0041", b"\\ud800", b"\\/", b'\\"', b"null", b"false", b"true"),
    *(
        b"[]",
        b"{}",
        b'""',
        b"[1]",
        b"0",
        b"-0",
        b"1.0",
        b"1e3",
        b"9007199254740992",
        b'"a":1,',
        b'"gpc":true,',
        b'"account":"' + b"0f" * 16 + b'",',
        b'"lapsed":{"a":1},',
        b'"conditional":true,',
        b'"authentication":"ledger",',
        b'"authentication":"secret",',
        b'"action":"dismiss",',
        b'"decisions":{"a":"denied"},',
        b"notice.seen",
        b"account.linked",
        b"consent.expired",
        b"consent.refused",
        b"consent.dismissed",
        b" " * 3,
    ),
]


@st.composite
def edited(draw: st.DrawFn, *originals: bytes) -> bytes:
    """One of the texts with a few places replaced, cut out, doubled or filled with something awkward."""
    data = draw(st.sampled_from(originals))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(data)))
        end = draw(st.sampled_from([at, at + 1, at + 4]))
        middle = draw(st.sampled_from([*PIECES, data[at:end] * 2, b""]))
        data = data[:at] + middle + data[end:]
    return data


def refuses(parse: Callable[[], object], error: type[Exception]) -> bool:
    try:
        parse()
    except error:
        return True
    return False


many = settings(max_examples=300, deadline=None)


@many
@given(edited(EVENT, FULL_EVENT, *OTHER_EVENTS))
@example(EVENT)
@example(FULL_EVENT)
@example(EVENT.replace(b'"weco.nexaxt.com"', b'""'))
def test_events(data: bytes) -> None:
    ours = refuses(lambda: decode_payload(data, Event), LedgerError)
    assert refuses(lambda: decode_event(data), LedgerError) == ours
    assert refuses(lambda: spec_verifier.parse_payload(data, 1, 0), Fault) == ours


@many
@given(edited(*ACTS))
@example(ACTS[0].replace(b"operator", b"visitors"))
@example(ACTS[1].replace(b"ordered", b"forgotten"))
@example(ACTS[1].replace(b"ticket 7", b"ticket\\n7"))
@example(ACTS[1].replace(b"T03", b"T24"))
def test_administrative_acts(data: bytes) -> None:
    ours = refuses(lambda: decode_logged(data, "x.admin-log"), LedgerError)
    theirs = refuses(lambda: spec_verifier.parse_payload(data, 1, 0), Fault)
    site = re.search(rb'"site":"(.*?)"', data)
    if site is not None and site[1].endswith(b".admin-log"):  # else it is read as another event
        assert theirs == ours


@pytest.mark.parametrize("data", ACTS)
def test_an_act_is_one_in_an_administrative_log_alone(data: bytes) -> None:
    assert isinstance(decode_logged(data, "x.admin-log"), AdminAct)
    assert spec_verifier.parse_payload(data, 1, 0)
    with pytest.raises(Malformed):
        decode_logged(data, "x.example")
    with pytest.raises(Malformed):
        decode_logged(EVENT, "x.admin-log")


def test_the_words_of_acts_are_the_same_everywhere() -> None:
    script = (Path(ledger.__file__).parent / "web" / "payload.js").read_text()
    text = (Path(__file__).parents[2] / "proto" / "SPEC.md").read_text()
    for word in get_args(ActWord):
        assert re.fullmatch(spec_verifier.ACT["act"], word)
        assert f'"{word}"' in script
        assert f"`{word}`" in text
    assert DETAILS.keys() == set(get_args(ActWord))
    for enumeration in (Role, Flag):
        words = "|".join(get_args(enumeration))
        assert words in (spec_verifier.ACT["role"], spec_verifier.ACT["flagged"])
        assert words in script


@pytest.mark.parametrize("data", [EVENT, FULL_EVENT, *OTHER_EVENTS])
def test_an_event_of_every_type_is_accepted(data: bytes) -> None:
    assert decode_event(data) == decode_payload(data, Event)
    assert spec_verifier.parse_payload(data, 1, 0)


@pytest.mark.parametrize("kind", sorted(spec_verifier.OF_TYPE))
def test_a_type_has_its_own_members_and_no_others(kind: str) -> None:
    """Every combination of the members that belong to types, judged by the table of SPEC.md alone and by the ledger."""
    typed = {
        "account": b'"account":"' + b"0f" * 16 + b'"',
        "action": b'"action":"dismiss"',
        "authentication": b'"authentication":"ledger"',
        "decisions": b'"decisions":{"a":"denied"}',
        "id": COMMON[:-1],
        "lapsed": b'"lapsed":{"a":7}',
        "site": b'"site":"x"',
        "type": b'"type":"' + kind.encode() + b'"',
        "visitor": END[:-1],
    }
    optional = ["account", "action", "authentication", "decisions", "lapsed"]
    accepted = set()
    for chosen in itertools.chain.from_iterable(itertools.combinations(optional, n) for n in range(6)):
        data = b"{" + b",".join(text for name, text in typed.items() if name not in optional or name in chosen) + b"}"
        ours = refuses(lambda data=data: decode_event(data), LedgerError)  # type: ignore[misc]
        assert refuses(lambda data=data: spec_verifier.parse_payload(data, 1, 0), Fault) == ours  # type: ignore[misc]
        if not ours:
            accepted.add(chosen)
    needed, possible = spec_verifier.OF_TYPE[kind]
    assert accepted == {tuple(sorted(needed | {one for one in possible if n})) for n in (0, 1)}


@many
@given(edited(RECORD))
@example(RECORD)
def test_erasure_records(data: bytes) -> None:
    ours = refuses(lambda: decode_payload(data, ErasureRecord), LedgerError)
    assert refuses(lambda: spec_verifier.parse_payload(data, 3, 0), Fault) == ours


@many
@given(edited(WIRE["checkpoint_5"].encode(), WIRE["checkpoint_10_cosigned"].encode()))
def test_checkpoints(data: bytes) -> None:
    ours = refuses(lambda: note.parse_checkpoint(data), LedgerError)
    assert refuses(lambda: spec_notes.parse_checkpoint(data), Fault) == ours


@many
@given(edited(WIRE["log_vkey"].encode(), WIRE["witness_vkey"].encode()), st.sampled_from([1, 4]))
def test_vkeys(data: bytes, key_type: int) -> None:
    text = data.decode("utf-8", "replace")
    ours = refuses(lambda: note.parse_vkey(text, key_type), LedgerError)
    assert refuses(lambda: spec_notes.parse_vkey(text, key_type), Fault) == ours


@many
@given(edited(LINE))
@example(LINE)
@example(b'{"payload":"e30=", "seq":7 ,"salt":"AAAA"}')
def test_openings(data: bytes) -> None:
    line = data.replace(b"\n", b" ")
    ours = refuses(lambda: opening.decode_line(line), LedgerError)
    assert refuses(lambda: spec_verifier.parse_opening(line), Fault) == ours


@many
@given(edited(*(bytes.fromhex(known["entry"]) for known in WIRE["entries"])))
def test_entries(data: bytes) -> None:
    ours = refuses(lambda: entry.decode(data), LedgerError)
    assert refuses(lambda: spec_verifier.parse_entry(data), Fault) == ours


@many
@given(edited(WIRE["origin"].encode()))
def test_origins(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    ours = refuses(lambda: note.check_origin(text), LedgerError)
    assert refuses(lambda: spec_notes.split_origin(text), Fault) == ours
