"""Entries: 180 bytes and their public part, and no other bytes (rule 1)."""

from __future__ import annotations

from contextlib import suppress
from hashlib import sha256

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ledger.core import entry
from ledger.core.entry import Entry
from ledger.core.errors import Malformed

hashes = st.binary(min_size=32, max_size=32)
entries = st.builds(
    Entry,
    seq=st.integers(0, 2**53 - 1),
    ms=st.integers(0, 2**53 - 1),
    prev=hashes,
    kind=st.integers(0, 255),
    commit=hashes,
    signer=hashes,
    signature=st.binary(min_size=64, max_size=64),
    public=st.binary(max_size=300),
)
PLAIN = Entry(7, 1_795_230_000_000, bytes(32), 1, b"\1" * 32, b"\2" * 32, b"\3" * 64, b"")


@given(entries)
@example(PLAIN._replace(public=bytes(entry.MAX_PUBLIC_BYTES)))
def test_an_entry_comes_back_as_it_was(made: Entry) -> None:
    data = entry.encode(made)
    assert len(data) == entry.HEAD_BYTES + len(made.public)
    assert entry.decode(data) == made


@given(entries, st.data())
def test_an_entry_cut_or_lengthened_is_malformed(made: Entry, data: st.DataObject) -> None:
    whole = entry.encode(made)
    for wrong in (whole[: data.draw(st.integers(0, len(whole) - 1))], whole + data.draw(st.binary(min_size=1))):
        with pytest.raises(Malformed):
            entry.decode(wrong)


@given(st.binary(max_size=400))
@example(b"\1" + bytes(179))
def test_any_bytes_are_an_entry_or_malformed(data: bytes) -> None:
    with suppress(Malformed):
        assert entry.encode(entry.decode(data)) == data


def test_numbers_are_below_2_to_the_53_and_the_version_is_1() -> None:
    data = entry.encode(PLAIN)
    assert entry.decode(entry.encode(PLAIN._replace(seq=2**53 - 1, ms=2**53 - 1)))
    for wrong in (
        entry.encode(PLAIN._replace(seq=2**53)),
        entry.encode(PLAIN._replace(ms=2**53)),
        b"\0" + data[1:],
        b"\2" + data[1:],
    ):
        with pytest.raises(Malformed):
            entry.decode(wrong)


def test_an_entry_is_at_most_65_535_bytes() -> None:
    with pytest.raises(ValueError, match="at most"):
        entry.encode(PLAIN._replace(public=bytes(entry.MAX_PUBLIC_BYTES + 1)))
    with pytest.raises(Malformed):
        entry.decode(entry.encode(PLAIN) + bytes(65_535))


def test_the_core_holds_all_but_position_time_and_chain() -> None:
    core = entry.core_bytes(b"L" * 32, 1, b"C" * 32, b"public")
    assert core == b"consent-ledger/v1 entry\n" + b"L" * 32 + b"\1" + b"C" * 32 + b"\0\6public"


def test_a_commitment_is_over_salt_and_payload() -> None:
    assert entry.commitment(b"s" * 32, b"{}") == sha256(b"consent-ledger/v1 commit\n" + b"s" * 32 + b"{}").digest()


ascending = st.sets(st.integers(0, 2**64 - 1), min_size=1, max_size=50).map(sorted)


@given(ascending)
def test_the_seqs_of_an_erasure_come_back(seqs: list[int]) -> None:
    assert entry.decode_seqs(entry.encode_seqs(seqs)) == tuple(seqs)


@pytest.mark.parametrize(
    "public", [b"", bytes(7), bytes(9), bytes(16), (2).to_bytes(8, "big") + (1).to_bytes(8, "big"), bytes(8 * 4097)]
)
def test_seqs_that_do_not_ascend_or_are_too_few_or_many_are_malformed(public: bytes) -> None:
    with pytest.raises(Malformed):
        entry.decode_seqs(public)


@pytest.mark.parametrize("seqs", [[], [1, 1], [2, 1], list(range(4097))])
def test_an_erasure_that_would_be_malformed_is_not_made(seqs: list[int]) -> None:
    with pytest.raises(ValueError, match="ascending"):
        entry.encode_seqs(seqs)


def test_an_erasure_of_4_096_events_fits() -> None:
    assert len(entry.decode_seqs(entry.encode_seqs(list(range(4096))))) == 4096
