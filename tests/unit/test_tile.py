"""Tile paths and files: C2SP tlog-tiles in its one form."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ledger.core import tile
from ledger.core.errors import Malformed
from ledger.core.tile import ENTRIES, TILE_WIDTH, Tile

tiles = st.builds(Tile, st.integers(ENTRIES, 63), st.integers(0, 2**53 - 1), st.integers(1, TILE_WIDTH))


@given(tiles)
@example(Tile(0, 1_234_067, 256))
def test_a_path_comes_back_as_its_tile(made: Tile) -> None:
    assert tile.parse_path(made.path) == made


@pytest.mark.parametrize(
    ("made", "path"),
    [
        (Tile(0, 0), "tile/0/000"),
        (Tile(ENTRIES, 0, 1), "tile/entries/000.p/1"),
        (Tile(1, 1_234_067), "tile/1/x001/x234/067"),
        (Tile(ENTRIES, 1000, 255), "tile/entries/x001/000.p/255"),
    ],
)
def test_paths_are_those_of_the_specification(made: Tile, path: str) -> None:
    assert made.path == path


@pytest.mark.parametrize(
    "path",
    [
        "",
        "tile",
        "tile/0",
        "tile/0/0",
        "tile/0/00",
        "tile/0/0000",
        "tile/0/1000",
        "tile/00/000",
        "tile/-1/000",
        "tile/+1/000",
        "tile/64/000",
        "tile/100/000",
        "tile/entry/000",
        "tile/0/x000/000",
        "tile/0/x001",
        "tile/0/001/000",
        "tile/0/x01/000",
        "tile/0/000.p",
        "tile/0/000.p/",
        "tile/0/000.p/0",
        "tile/0/000.p/01",
        "tile/0/000.p/256",
        "tile/0/000.p/257",
        "tile/0/000.p/1/2",
        "tile/0/000/",
        "/tile/0/000",
        "tile//000",
        "tile/0/٠٠٠",
        "tile/0/../000",
        "tile/0/" + "x999/" * 6 + "999",
    ],
)
def test_other_paths_are_refused(path: str) -> None:
    with pytest.raises(Malformed):
        tile.parse_path(path)


@given(st.text(alphabet="tile/entrsx0123.p", max_size=40))
def test_any_text_is_a_path_or_malformed(path: str) -> None:
    with suppress(Malformed):
        assert tile.parse_path(path).path == path


@pytest.mark.parametrize(
    ("size", "paths"),
    [
        (0, []),
        (1, ["tile/0/000.p/1", "tile/entries/000.p/1"]),
        (256, ["tile/0/000", "tile/1/000.p/1", "tile/entries/000"]),
        (
            700,
            [
                *("tile/0/000", "tile/0/001", "tile/0/002.p/188", "tile/1/000.p/2"),
                *("tile/entries/000", "tile/entries/001", "tile/entries/002.p/188"),
            ],
        ),
    ],
)
def test_the_tiles_of_a_tree(size: int, paths: list[str]) -> None:
    assert [made.path for made in tile.tiles_of(size)] == paths


def test_the_tiles_of_a_tree_of_65_536_reach_level_2() -> None:
    made = list(tile.tiles_of(65_536))
    assert len(made) == 256 + 1 + 1 + 256
    assert Tile(2, 0, 1) in made


@given(st.lists(st.binary(min_size=32, max_size=32), min_size=1, max_size=256))
def test_hashes_come_back_in_their_number_and_no_other(hashes: list[bytes]) -> None:
    data = tile.encode_hashes(hashes)
    assert tile.decode_hashes(data, len(hashes)) == hashes
    for wrong in (data[:-1], data + b"!", data + bytes(32)):
        with pytest.raises(Malformed):
            tile.decode_hashes(wrong, len(hashes))


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=256), st.data())
def test_a_bundle_comes_back_and_cut_or_lengthened_is_malformed(entries: list[bytes], data: st.DataObject) -> None:
    bundle = tile.encode_bundle(entries)
    assert tile.decode_bundle(bundle, len(entries)) == entries
    cut = bundle[: data.draw(st.integers(0, len(bundle) - 1))]
    for wrong, width in ((cut, len(entries)), (bundle + b"!", len(entries)), (bundle, len(entries) + 1)):
        with pytest.raises(Malformed):
            tile.decode_bundle(wrong, width)
    if len(entries) > 1:
        with pytest.raises(Malformed):
            tile.decode_bundle(bundle, len(entries) - 1)


@given(st.binary(max_size=100), st.integers(1, 5))
def test_any_bytes_are_a_bundle_or_malformed(data: bytes, width: int) -> None:
    with suppress(Malformed):
        assert tile.encode_bundle(tile.decode_bundle(data, width)) == data


def test_the_largest_entry_fits() -> None:
    entries = [bytes(65_535)] * 256
    bundle = tile.encode_bundle(entries)
    assert len(bundle) == tile.MAX_BUNDLE_BYTES
    assert tile.decode_bundle(bundle, 256) == entries
