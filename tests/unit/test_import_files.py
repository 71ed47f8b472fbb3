"""Files as spreadsheets and tools write them: encodings, quotes, broken rows, endless ones; times; and what is removed
from a row before it is kept.
"""

from __future__ import annotations

import csv
import io
import json
import random
import tracemalloc
from datetime import UTC
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.config import IMPORT_ROW_MAX_CHARACTERS
from ledger.core.errors import ConfigInvalid, RowRefused
from ledger.importing import columns, didomi
from ledger.importing.evidence import MAX_CHARACTERS, REMOVED, evidence_of
from ledger.importing.moment import read_moment
from ledger.importing.row import Row
from ledger.importing.table import Broken, read_table
from ledger.importing.values import read_values
from tests.importing import DIDOMI, DIDOMI_MAPPING, VISITOR, events, packed, read, told

TABLE = f'visitor,date,analytics,page\r\n{VISITOR},2024-01-01T00:00:00Z,yes,"a, ""b""\r\nc"\r\n'


def pieces(text: str, size: int = 7) -> list[str]:
    return [text[start : start + size] for start in range(0, len(text), size)]


def rows(text: str, size: int = 7) -> list[Row | Broken]:
    return list(read_table(pieces(text, size)))


def kinds(found: list[Row | Broken]) -> list[str]:
    return [one.problem.kind if isinstance(one, Broken) else "row" for one in found]


# --- encodings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        TABLE.encode(),
        TABLE.encode("utf-8-sig"),
        TABLE.encode("utf-16"),
        b"\xfe\xff" + TABLE.encode("utf-16-be"),
        packed(TABLE.encode()),
        packed(TABLE.encode("utf-16")),
        ("sep=,\r\n" + TABLE).encode(),
        TABLE.replace("\r\n", "\n").encode(),
        ("\r\n\r\n" + TABLE).encode(),
        TABLE.rstrip().encode(),
    ],
)
def test_the_same_rows_come_out_of_every_encoding(data: bytes) -> None:
    (event,) = events(read(columns.FORMAT, data))
    assert (event.visitor, event.decisions) == (VISITOR, {"analytics": "granted"})
    assert (event.original or "").replace("\r\n", "\n") == f'{VISITOR},2024-01-01T00:00:00Z,yes,"a, ""b""\nc"'


def test_semicolons_and_tabs_are_seen_in_the_header() -> None:
    for mark in ";\t|":
        table = f"visitor{mark}date{mark}analytics\n{VISITOR}{mark}2024-01-01T00:00:00Z{mark}1\n"
        assert told(read(columns.FORMAT, table)) == ["event"]


@pytest.mark.parametrize(
    "data",
    [
        "visitor,date,analytics\nä".encode("latin-1"),
        b"",
        b"\n\n",
        b"\xef\xbb\xbf",
        packed(TABLE.encode())[:-9],
        b"\x1f\x8bno gzip",
        b"\x89PNG\r\n\x1a\n\0\0\0",
        b"PK\x03\x04\x14\0",
        b"visitor",
        b"x" * (2 * IMPORT_ROW_MAX_CHARACTERS),
        b'{"a": 1}',
    ],
)
def test_a_file_that_is_something_else_is_refused_with_a_sentence(data: bytes) -> None:
    with pytest.raises(ConfigInvalid):
        read(columns.FORMAT, data)


def test_an_encoding_can_be_named() -> None:
    table = f"visitor,date,Année\n{VISITOR},2024-01-01T00:00:00Z,1\n".encode("cp1252")
    found = read(columns.FORMAT, table, "purposes: {Année: analytics}\npolicyVersion: '1'", encoding="cp1252")
    assert told(found) == ["event"]


# --- tables -----------------------------------------------------------------------------------------------------------


CELL = st.text(st.sampled_from("ab ,;\"\n'é"), max_size=6)


@given(st.lists(st.lists(CELL, min_size=3, max_size=3), min_size=1, max_size=6), st.integers(1, 40))
def test_a_table_is_read_as_the_standard_library_reads_it(cells: list[list[str]], size: int) -> None:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(["a", "b", "c"])
    writer.writerows(cells)
    found = rows(out.getvalue(), size)
    assert all(isinstance(row, Row) for row in found)
    expected = [row for row in cells if any(cell.strip() for cell in row)]
    assert [list(row.value.values()) for row in found if isinstance(row, Row)] == expected
    assert [row.number for row in found] == [n for n, row in enumerate(cells, 2) if row in expected]


@given(st.text(st.sampled_from('ab,"\r\n'), max_size=60), st.integers(1, 20))
def test_no_text_breaks_the_reading_of_a_table(text: str, size: int) -> None:
    found = rows("a,b,c\n" + text + "\n1,2,3\n", size)
    assert all(isinstance(one, Row | Broken) for one in found)
    assert [one.number for one in found] == sorted({one.number for one in found})


def test_a_stray_quote_spoils_its_own_row_alone() -> None:
    found = rows('a,b\n1,"open\n2,x\n3,"y"\n4,"z" z\n5,6,7\n8\n5" screen,x\n')
    assert kinds(found) == ["open-quote", "row", "row", "text-after-quote", "too-many-cells", "row", "row"]
    assert [one.number for one in found] == [2, 3, 4, 5, 6, 7, 8]


def test_a_quote_that_never_closes_costs_no_memory_and_no_rows() -> None:
    line = "1," + "x" * 200 + "\n"
    found = rows('a,b\n1,"open\n' + line * 5_000, 65_536)
    assert kinds(found) == ["open-quote", *["row"] * 5_000]


# --- JSON -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        '{"n":1}\n{"n":2}\n',
        '{"n":1}{"n":2}',
        '[{"n":1},{"n":2}]',
        '[\n  {"n": 1},\n  {"n": 2}\n]\n',
        '{"data":[{"n":1},{"n":2}]}',
        '{"total":2,"page":{"data":[0]},"x":["data"],"data" : [ {"n":1}, {"n":2} ], "rest": [{"n":3}]}',
        '\n\n{\n "n": 1\n}\n{\n "n": 2\n}',
    ],
)
@pytest.mark.parametrize("size", [1, 5, 1000])
def test_objects_are_found_however_they_are_put_together(text: str, size: int) -> None:
    found = list(read_values(pieces(text, size), ("data",)))
    assert [(row.number, row.value) for row in found if isinstance(row, Row)] == [(1, {"n": 1}), (2, {"n": 2})]
    assert len(found) == 2


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(st.dictionaries(st.sampled_from("nxy"), JSON, min_size=1), min_size=1, max_size=4), st.integers(1, 30))
def test_any_objects_survive_line_by_line_and_as_a_list(values: list[dict[str, Any]], size: int) -> None:
    for text in ("\n".join(map(json.dumps, values)), json.dumps(values), json.dumps(values, indent=2)):
        found = list(read_values(pieces(text, size), ()))
        assert [row.value for row in found if isinstance(row, Row)] == values


@given(st.text(st.sampled_from('{}[]",:\\ \n1a'), max_size=50), st.integers(1, 20))
def test_no_text_breaks_the_reading_of_values(text: str, size: int) -> None:
    found = list(read_values(pieces('{"n":1}\n' + text, size), ("n",)))
    assert all(isinstance(one, Row | Broken) for one in found)


def test_an_object_that_breaks_off_spoils_its_own_line_alone() -> None:
    found = list(read_values(pieces('{"n":1}\n{"n":"open\n{"n":{"m":2}\n7\n{"n":3}\n'), ()))
    good = [row.value for row in found if isinstance(row, Row)]
    assert good == [{"n": 1}, {"n": 3}]
    assert kinds(found).count("invalid-json") == 2


@pytest.mark.parametrize(
    "text",
    ['[{"n":1},{"n":2}', '[{"n":1},{"n":"open}]', '{"data":[{"n":1}', '[', '[{"n":1},'
     + '{"n":"' + "x" * IMPORT_ROW_MAX_CHARACTERS + '"},{"n":3}]'],
)  # fmt: skip
def test_a_list_that_is_not_whole_is_no_import(text: str) -> None:
    with pytest.raises(ConfigInvalid):
        list(read_values(pieces(text, 10_000), ("data",)))


# --- times ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2024-05-01T10:00:00Z", 1714557600000),
        ("2024-05-01T10:00:00.123456789Z", 1714557600123),
        ("2024-05-01 12:00:00+02:00", 1714557600000),
        ("2024-05-01T12:00:00+0200", 1714557600000),
        ("2024-05-01T12:00:00 +02", 1714557600000),
        ("2024-05-01 10:00 UTC", 1714557600000),
        ("1714557600", 1714557600000),
        ("1714557600000", 1714557600000),
    ],
)
def test_a_definite_time_is_one_moment(text: str, expected: int) -> None:
    assert read_moment(text, None, None) == (expected, expected)


@pytest.mark.parametrize(
    "text",
    ["", "yesterday", "2024-02-30T00:00:00Z", "01/05/2024 10:00", "2024-05-01T25:00:00Z", "20240501", "12345", "9" * 40,
     "0000-00-00 00:00:00", "2024-05-01T10:00:00+99:00", "2024-05-01T10:00:00Z\n"],
)  # fmt: skip
def test_what_is_no_time_is_not_guessed_at(text: str) -> None:
    with pytest.raises(RowRefused) as refused:
        read_moment(text, UTC, None)
    assert refused.value.kind == "bad-time"


def test_a_time_without_a_zone_needs_one_to_be_named() -> None:
    with pytest.raises(RowRefused) as refused:
        read_moment("2024-05-01 10:00:00", None, None)
    assert refused.value.kind == "time-zone-missing"
    assert read_moment("2024-05-01 12:00:00", ZoneInfo("Europe/Berlin"), None).latest_ms == 1714557600000
    assert read_moment("01.05.2024 12:00", ZoneInfo("Europe/Berlin"), "%d.%m.%Y %H:%M").latest_ms == 1714557600000


def test_a_doubtful_time_dates_a_grant_early_and_a_denial_late() -> None:
    day = read_moment("2024-05-01", UTC, None)
    assert day.latest_ms - day.earliest_ms == 24 * 3600 * 1000 - 1
    twice = read_moment("2024-10-27 02:30:00", ZoneInfo("Europe/Berlin"), None)
    assert twice.latest_ms - twice.earliest_ms == 3600 * 1000
    table = f"visitor,date,analytics\n{VISITOR},2024-05-01,1\n{VISITOR},2024-05-01,0\n"
    granted, denied = events(read(columns.FORMAT, table, time_zone="UTC"))
    assert (granted.occurred_at, denied.occurred_at) == ("2024-05-01T00:00:00.000Z", "2024-05-01T23:59:59.999Z")


# --- evidence ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cell", "kept"),
    [
        ("203.0.113.7", REMOVED),
        ("from 203.0.113.7, twice 198.51.100.9", f"from {REMOVED}, twice {REMOVED}"),
        ("2001:db8::1", REMOVED),
        ("[2001:db8:0:0:0:0:0:1]:443", f"[{REMOVED}]:443"),
        ("::ffff:203.0.113.7", REMOVED),
        ("jo.public+x@mail.example.org", REMOVED),
        ("mailto jo%40example.org!", f"mailto {REMOVED}!"),
        ("https://shop.example.com/a?session=1#x", f"https://shop.example.com/a?{REMOVED}"),
        ("https://shop.example.com/a", "https://shop.example.com/a"),
        ("2024-05-01T10:20:30.123+02:00", "2024-05-01T10:20:30.123+02:00"),
        ("10:20:30", "10:20:30"),
        ("version 1.2.3", "version 1.2.3"),
        (VISITOR, VISITOR),
        ("XLzc6qxtRqd7yq8Rr0mQ2fXJkzPq9w==", "XLzc6qxtRqd7yq8Rr0mQ2fXJkzPq9w=="),
        ("CPXxRfAPXxRfAAfKABENB-CgAAAAAAAAAAYgAAAAAAAA", "CPXxRfAPXxRfAAfKABENB-CgAAAAAAAAAAYgAAAAAAAA"),
        ("granted", "granted"),
    ],
)
def test_addresses_are_removed_wherever_they_stand_and_nothing_else(cell: str, kept: str) -> None:
    table = Row(2, {"note": cell}, header=("id", "note"), pieces=("1", f'"{cell}"'))
    assert evidence_of(table).text == f'1,"{kept}"'
    assert json.loads(evidence_of(Row(1, {"a": [{"note": cell}]})).text) == {"a": [{"note": kept}]}
    assert bool(evidence_of(table).removed) == (REMOVED in kept)


@pytest.mark.parametrize(
    "name",
    ["IP", "Anonymised IP", "ip_address", "lastIpAddress", "User agent", "userAgent", "E-Mail", "Phone number", "Name",
     "First name", "linkToken", "dataElements"],
)  # fmt: skip
def test_columns_that_are_known_to_be_personal_are_removed_whole(name: str) -> None:
    table = Row(2, {name: "Jo", "x": "y"}, header=(name, "x"), pieces=("Jo", "y"))
    assert evidence_of(table) == (f"{REMOVED},y", 1)
    assert json.loads(evidence_of(Row(1, {"user": {name: "Jo", "x": "y"}})).text) == {"user": {name: REMOVED, "x": "y"}}


def test_the_names_of_purposes_stay() -> None:
    value = {"purposes": [{"name": "Newsletter"}], "Purpose Name": "Newsletter"}
    assert evidence_of(Row(1, value)) == (json.dumps(value, separators=(",", ":")), 0)


def test_what_the_mapping_names_is_removed_too() -> None:
    table = f"visitor,date,analytics,Comment\n{VISITOR},2024-01-01T00:00:00Z,1,called from home\n"
    (event,) = events(read(columns.FORMAT, table, "remove: [comment]\npolicyVersion: '1.0'"))
    assert event.original == f"{VISITOR},2024-01-01T00:00:00Z,1,{REMOVED}"


@pytest.mark.parametrize("letter", ["x", "ж", "\U0001f36a", '"', "\\"])
def test_evidence_has_a_bound_in_characters_and_in_bytes(letter: str) -> None:
    text = evidence_of(Row(2, {"a": letter}, header=("a", "b"), pieces=(letter * 20_000, "y"))).text
    assert len(text) <= MAX_CHARACTERS
    assert len(json.dumps(text, ensure_ascii=False).encode()) <= 11_000
    assert text.endswith("[cut]")


# --- memory -----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_hundred_thousand_rows_are_read_in_bounded_memory() -> None:
    chance = random.Random(4)
    lines = (
        f"{chance.getrandbits(128):032x},2024-01-01T00:00:00Z,{n % 2},https://shop.example.com/?{n},203.0.113.9\n"
        for n in range(100_000)
    )
    text = "visitor,date,analytics,page,ip\n" + "".join(lines)
    tracemalloc.start()
    try:
        count = sum(1 for row in read_table(text[n : n + 65_536] for n in range(0, len(text), 65_536)) if row)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert count == 100_000
    assert peak < 4 * 1024 * 1024


def test_a_line_of_a_batch_export_is_split_without_its_user_being_kept() -> None:
    first = read(didomi.FORMAT, DIDOMI, DIDOMI_MAPPING)[0]
    assert first.act is not None
    assert 'consents":{}' not in (first.act.event.original or "")
