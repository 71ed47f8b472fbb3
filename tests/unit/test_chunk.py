"""A bundle of plain events is judged by columns, any other entry by entry: the two never disagree."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.core import chunk as chunks
from ledger.core.chunk import Bound, Chunk, Findings, Signers, audit_chunk
from ledger.core.columns import plain_events
from ledger.core.entry import Entry, decode, encode, key_hash
from ledger.core.opening import Opening, encode_line
from ledger.core.tile import encode_bundle
from tests.logbuilder import START_MS, LogBuilder, key

WIDTH = 40


@cache
def log() -> LogBuilder:
    made = LogBuilder()
    made.policy()
    made.events(254 + WIDTH)
    return made


@dataclass
class Made:
    """A chunk in the making: the entries from 256 on."""

    entries: list[bytes]
    bounds: tuple[Bound, ...] = ()
    signed_below: int = 0

    def chunk(self) -> Chunk:
        signers = Signers(256, {key_hash(log().ingest.public): log().ingest.public})
        lines = [encode_line(Opening(seq, *log().openings[seq])) for seq in range(256, 256 + WIDTH) if seq % 7]
        return Chunk(
            first=256,
            width=WIDTH,
            bundle=encode_bundle(self.entries),
            log=log().log_id,
            site=log().site,
            signers=(signers,),
            bounds=self.bounds,
            openings=b"".join(lines),
            signed_below=self.signed_below,
            key=b"key of this run",
        )


def plain() -> Made:
    return Made(log().entries[256:])


def comparable(findings: Findings) -> tuple[Any, ...]:
    return findings._replace(faults=None), findings.faults.__getstate__()  # type: ignore[arg-type]


def both_ways(chunk: Chunk) -> tuple[Findings, Findings]:
    by_columns = audit_chunk(chunk)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunks, "plain_events", lambda _: None)
        return by_columns, audit_chunk(chunk)


def test_plain_events_are_clear_by_columns_and_found_the_same_entry_by_entry() -> None:
    chunk = plain().chunk()
    assert plain_events(chunk) is not None
    by_columns, by_entries = both_ways(chunk)
    assert not by_columns.faults
    assert comparable(by_columns) == comparable(by_entries)
    assert by_columns.signatures == WIDTH
    assert by_columns.events.bit_count() == WIDTH


def test_an_older_checkpoint_spares_the_same_signatures() -> None:
    made = plain()
    made.signed_below = 266
    by_columns, by_entries = both_ways(made.chunk())
    assert comparable(by_columns) == comparable(by_entries)
    assert by_columns.signatures == WIDTH - 10


@pytest.mark.parametrize("ms", [0, START_MS + 1000 * 270, 2**53])
def test_the_bounds_of_cosignatures_are_the_same(ms: int) -> None:
    made = plain()
    made.bounds = (Bound(260, ms), Bound(400, ms))
    by_columns, by_entries = both_ways(made.chunk())
    assert comparable(by_columns) == comparable(by_entries)


FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "seq": st.integers(0, 2**64 - 1),
    "ms": st.integers(0, 2**64 - 1),
    "prev": st.just(bytes(32)),
    "kind": st.integers(0, 6),
    "commit": st.sampled_from([bytes(32), b"\1" * 32]),
    "signer": st.sampled_from([key_hash(key("thief").public), bytes(32)]),
    "signature": st.just(bytes(64)),
    "public": st.binary(max_size=20),
}


@settings(max_examples=150, deadline=None)
@given(st.integers(0, WIDTH - 1), st.sampled_from(list(FIELDS)), st.data())
def test_an_entry_with_another_field_is_judged_the_same(at: int, name: str, data: st.DataObject) -> None:
    made = plain()
    entry: Entry = decode(made.entries[at])
    made.entries[at] = encode(entry._replace(**{name: data.draw(FIELDS[name])}))
    by_columns, by_entries = both_ways(made.chunk())
    assert comparable(by_columns) == comparable(by_entries)
    changed = made.entries[at] != log().entries[256 + at]
    if at < WIDTH - 1 and changed:
        assert by_columns.faults  # the chain at least


@settings(max_examples=150, deadline=None)
@given(st.integers(0, WIDTH - 1), st.integers(0, 179), st.integers(1, 255))
def test_an_entry_with_another_byte_is_judged_the_same(at: int, position: int, change: int) -> None:
    made = plain()
    data = bytearray(made.entries[at])
    data[position] ^= change
    made.entries[at] = bytes(data)
    by_columns, by_entries = both_ways(made.chunk())
    assert comparable(by_columns) == comparable(by_entries)
    if at < WIDTH - 1:
        assert by_columns.faults
