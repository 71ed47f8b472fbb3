"""What a site's stream holds, and the order in which it is published: names, messages, plans, samples."""

from __future__ import annotations

import os
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.core.ed25519 import SigningKey
from ledger.core.entry import (
    MAX_ERASED_SEQS,
    MAX_PUBLIC_BYTES,
    ZEROS,
    Entry,
    Kind,
    core_bytes,
    encode,
    encode_seqs,
    key_hash,
)
from ledger.core.errors import Malformed
from ledger.core.stream import (
    MAX_HEADERS_BYTES,
    Plan,
    Row,
    event_type,
    is_signed_by,
    message,
    names,
    plan,
    published_entry,
    sample,
)

SITE = "shop.example.com"
ORIGIN = "ledger.test/shop.example.com"
PAYLOAD = b'{"action":"only_necessary","decisions":{"type":"denied"},"type":"consent.refused"}'
MAX_PAYLOAD = 1_048_576


def entry_of(seq: int, kind: int, public: bytes = b"") -> bytes:
    return encode(Entry(seq, 1_795_000_000_000 + seq, ZEROS, kind, ZEROS, ZEROS, bytes(64), public))


def event(seq: int, *, erased: bool = False, payload: bytes = PAYLOAD) -> Row:
    if erased:
        return Row(seq, entry_of(seq, Kind.EVENT), None, None, True)
    return Row(seq, entry_of(seq, Kind.EVENT), bytes(32), payload, False)


def erasure(seq: int, *seqs: int) -> Row:
    return Row(seq, entry_of(seq, Kind.ERASURE, encode_seqs(list(seqs))), bytes(32), b'{"reason":"retention"}', False)


def policy(seq: int, document: bytes) -> Row:
    return Row(seq, entry_of(seq, Kind.POLICY, bytes(32) + b"1.0"), None, None, False, document)


def planned(rows: list[Row], forgotten: int = -1, max_messages: int = 1000, max_bytes: int = 1 << 22) -> Plan:
    return plan(
        rows,
        SITE,
        ORIGIN,
        forgotten=forgotten,
        max_payload=MAX_PAYLOAD,
        max_messages=max_messages,
        max_bytes=max_bytes,
    )


def seqs_of(planned: Plan) -> list[list[int]]:
    return [[int(dict(built.headers)["ce-sequence"]) for built in batch] for batch in planned.batches]


def test_two_sites_never_share_a_stream() -> None:
    assert names("a-b.c.com") != names("a.b-c.com")
    assert names("shop.example.com") == ("consent-v1-shop_example_com", "consent.v1.shop_example_com")
    assert names("shop.example.com").subjects == "consent.v1.shop_example_com.>"


def test_an_event_s_message_carries_its_payload_exactly_and_its_opening_in_headers() -> None:
    built = message(event(7), SITE, ORIGIN, MAX_PAYLOAD)
    assert built.subject == "consent.v1.shop_example_com.refused"
    assert built.data == PAYLOAD
    assert dict(built.headers) == {
        "ce-specversion": "1.0",
        "ce-id": "shop.example.com:7",
        "ce-source": ORIGIN,
        "ce-type": "consent.refused",
        "ce-time": "2026-11-18T11:06:40.007Z",
        "ce-sequence": "00000000000000000007",
        "ce-datacontenttype": "application/json",
        "ce-dataschema": "urn:consentledger:v1:event",
        "ce-entry": dict(built.headers)["ce-entry"],
        "ce-salt": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
    }
    assert published_entry(dict(built.headers)["ce-entry"]) == event(7).entry


def test_a_tombstone_carries_the_entry_and_nothing_of_the_opening() -> None:
    built = message(event(7, erased=True), SITE, ORIGIN, MAX_PAYLOAD)
    assert (built.subject, built.data) == ("consent.v1.shop_example_com.erased", b"")
    assert "ce-salt" not in dict(built.headers)
    stale = event(7)._replace(erased=True)
    assert message(stale, SITE, ORIGIN, MAX_PAYLOAD) == built, "an erased row's opening is never published"


def test_the_largest_erasure_fits_the_headers() -> None:
    largest = erasure(5000, *range(1, MAX_ERASED_SEQS + 1))
    built = message(largest, SITE, ORIGIN, MAX_PAYLOAD)
    assert (built.subject, built.data) == ("consent.v1.shop_example_com.erasure", largest.payload)
    assert sum(len(name) + len(value) + 4 for name, value in built.headers) < MAX_HEADERS_BYTES


def test_a_document_too_large_for_the_server_is_named_by_its_hash() -> None:
    small, large = policy(1, b"{}"), policy(1, bytes(200_000))
    assert message(small, SITE, ORIGIN, 128 * 1024).data == b"{}"
    assert message(large, SITE, ORIGIN, MAX_PAYLOAD).data == large.document
    built = message(large, SITE, ORIGIN, 128 * 1024)
    assert (built.data, dict(built.headers)["ce-dataref"]) == (b"", "/documents/" + "00" * 32)


def test_a_key_entry_is_its_own_data() -> None:
    row = Row(3, entry_of(3, Kind.KEY, b"\x02" + bytes(32)), None, None, False)
    built = message(row, SITE, ORIGIN, MAX_PAYLOAD)
    assert (built.subject, built.data) == ("consent.v1.shop_example_com.key", row.entry)


@pytest.mark.parametrize(
    "row",
    [
        event(7)._replace(salt=None, payload=None),
        event(7)._replace(seq=8),
        event(7, payload=b"{}"),
        event(7, payload=b'{"type":"consent.sold"}'),
        policy(7, b"")._replace(document=None),
        Row(7, entry_of(7, Kind.GENESIS), None, None, False),
        Row(7, entry_of(7, 9), None, None, False),
        Row(7, b"short", None, None, False),
    ],
)
def test_a_row_of_a_damaged_ledger_is_never_published(row: Row) -> None:
    with pytest.raises(Malformed):
        message(row, SITE, ORIGIN, MAX_PAYLOAD)


def test_a_purpose_called_type_does_not_decide_the_subject() -> None:
    assert event_type(PAYLOAD) == "consent.refused"


def test_an_erasure_waits_for_its_deletions_and_everything_before_it_goes_first() -> None:
    rows = [event(1), event(2), erasure(3, 1), event(4), erasure(5, 4), event(6)]
    first = planned(rows)
    assert (seqs_of(first), first.forget) == ([[1, 2]], (1,))
    second = planned(rows[2:], forgotten=3)
    assert (seqs_of(second), second.forget) == ([[3, 4]], (4,))
    third = planned(rows[4:], forgotten=5)
    assert (seqs_of(third), third.forget) == ([[5, 6]], ())


def test_an_erasure_right_behind_the_cursor_is_waited_for_without_publishing() -> None:
    assert planned([erasure(3, 1), event(4)]) == Plan([], (1,))


ROWS = st.lists(st.sampled_from("eexp"), min_size=1, max_size=60)


@given(ROWS, st.integers(1, 7), st.integers(1, 20_000))
def test_plans_hold_every_entry_once_in_order_within_their_bounds(kinds: str, most: int, most_bytes: int) -> None:
    rows = [event(1)]
    for seq, kind in enumerate(kinds, 2):
        rows.append({"e": event(seq), "x": erasure(seq, 1), "p": policy(seq, b"{}" * 200)}[kind])
    published: list[int] = []
    forgotten = -1
    while len(published) < len(rows):
        current = planned(rows[len(published) :], forgotten, most, most_bytes)
        for batch, seqs in zip(current.batches, seqs_of(current), strict=True):
            assert len(batch) <= most
            assert len(batch) == 1 or sum(len(built.data) for built in batch) <= most_bytes
            assert not any("erasure" in built.subject for built in batch[1:])
            published += seqs
        assert current.forget or len(published) == len(rows)
        forgotten = len(published) + 1
    assert published == [row.seq for row in rows]


@given(st.integers(1, 10_000), st.integers(0, 10_000), st.integers(2, 100))
def test_a_sample_is_ascending_bounded_and_holds_both_ends(first: int, length: int, count: int) -> None:
    seqs = sample(first, first + length, count)
    assert seqs == sorted(set(seqs))
    assert (seqs[0], seqs[-1]) == (first, first + length)
    assert len(seqs) == min(count, length + 1)


def test_an_empty_stream_has_an_empty_sample() -> None:
    assert sample(5, 4, 64) == []


class Signed(NamedTuple):
    key: SigningKey
    log_id: bytes
    entry: bytes


def signed() -> Signed:
    key, log_id = SigningKey(os.urandom(32)), os.urandom(32)
    commit = os.urandom(32)
    signature = key.sign(core_bytes(log_id, Kind.EVENT, commit, b""))
    return Signed(key, log_id, encode(Entry(9, 1, ZEROS, Kind.EVENT, commit, key_hash(key.public), signature, b"")))


def test_an_entry_is_ours_only_by_our_key_over_our_log() -> None:
    ours = signed()
    assert is_signed_by(ours.entry, ours.log_id, ours.key.public)
    assert not is_signed_by(ours.entry, ours.log_id, signed().key.public)
    assert not is_signed_by(ours.entry, os.urandom(32), ours.key.public)


@pytest.mark.parametrize("header", [None, "", "AB==", "AAAA", "é"])
def test_junk_in_the_entry_header_is_no_entry(header: str | None) -> None:
    assert published_entry(header) is None


def test_the_bounds_of_an_entry_that_is_published_fit_the_headers() -> None:
    assert MAX_PUBLIC_BYTES > 8 * MAX_ERASED_SEQS
    assert (180 + 8 * MAX_ERASED_SEQS) * 4 // 3 < MAX_HEADERS_BYTES
