"""C2SP tlog-tiles: paths, hash tiles and entry bundles. Source: c2sp.org/tlog-tiles."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ledger.core.encoding import MAX_INT
from ledger.core.entry import MAX_ENTRY_BYTES
from ledger.core.errors import Malformed
from ledger.core.merkle import HASH_BYTES

TILE_HEIGHT = 8
TILE_WIDTH = 1 << TILE_HEIGHT
ENTRIES = -1
"""The level that stands for entry bundles."""


class Tile(NamedTuple):
    """Tile `index` of a level (or of the entry bundles), `width` of 1 to 256 items; 256 is a full one."""

    level: int
    n: int
    width: int = TILE_WIDTH

    @property
    def path(self) -> str:
        """`tile/<L>/<N>[.p/<W>]`, relative to the log's prefix."""
        groups = [f"{self.n % 1000:03d}"]
        rest = self.n // 1000
        while rest:
            groups.append(f"x{rest % 1000:03d}")
            rest //= 1000
        level = "entries" if self.level == ENTRIES else str(self.level)
        partial = "" if self.width == TILE_WIDTH else f".p/{self.width}"
        return f"tile/{level}/{'/'.join(reversed(groups))}{partial}"


def parse_path(path: str) -> Tile:
    """The tile that a path names; accepted only if the tile's own path is the same text."""
    parts = path.split("/")
    if len(parts) < 3 or parts[0] != "tile":
        raise Malformed("a tile path is tile/<L>/<N>[.p/<W>]")
    width = TILE_WIDTH
    if parts[-2].endswith(".p"):
        width = _number(parts.pop(), 3)
        parts[-1] = parts[-1].removesuffix(".p")
    level = ENTRIES if parts[1] == "entries" else _number(parts[1], 2)
    index = 0
    for group in parts[2:]:
        index = index * 1000 + _number(group.removeprefix("x"), 3)
        if index >= MAX_INT:
            raise Malformed("a tile index is below 2^53")
    tile = Tile(level, index, width)
    if tile.path != path or not 1 <= width <= TILE_WIDTH or level > 63:
        raise Malformed("a tile path that is not in its one form")
    return tile


def _number(text: str, digits: int) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > digits:
        raise Malformed("a tile path that is not in its one form")
    return int(text)


def tiles_of(size: int) -> Iterator[Tile]:
    """Every hash tile of a tree of `size` leaves, level by level, and last its entry bundles."""
    level, width = 0, size
    while width:
        yield from _row(level, width)
        level, width = level + 1, width >> TILE_HEIGHT
    yield from _row(ENTRIES, size)


def _row(level: int, count: int) -> Iterator[Tile]:
    for index in range(count >> TILE_HEIGHT):
        yield Tile(level, index)
    if count % TILE_WIDTH:
        yield Tile(level, count >> TILE_HEIGHT, count % TILE_WIDTH)


def encode_hashes(hashes: Sequence[bytes]) -> bytes:
    return b"".join(hashes)


def decode_hashes(data: bytes, width: int) -> list[bytes]:
    """The `width` hashes of a tile, exactly."""
    if len(data) != width * HASH_BYTES:
        raise Malformed(f"a tile of width {width} has {width * HASH_BYTES} bytes, this one {len(data)}")
    return [data[i : i + HASH_BYTES] for i in range(0, len(data), HASH_BYTES)]


def encode_bundle(entries: Sequence[bytes]) -> bytes:
    """`u16 length ‖ entry` for each."""
    return b"".join(len(entry).to_bytes(2, "big") + entry for entry in entries)


def decode_bundle(data: bytes, width: int) -> list[bytes]:
    """The `width` entries of a bundle, exactly, with nothing behind them."""
    entries: list[bytes] = []
    at = 0
    while at < len(data) and len(entries) < width:
        end = at + 2 + int.from_bytes(data[at : at + 2], "big")
        if at + 2 > len(data) or end > len(data):
            raise Malformed("an entry bundle that is cut short")
        entries.append(data[at + 2 : end])
        at = end
    if len(entries) != width or at != len(data):
        raise Malformed(f"an entry bundle of width {width} with {len(entries)} entries and {len(data) - at} bytes more")
    return entries


def cut_bundle(data: bytes, width: int) -> bytes:
    """The first `width` entries of a longer bundle, framed as they are. One that holds fewer is given back whole, for
    whoever decodes it to refuse."""
    at = 0
    for _ in range(width):
        if at + 2 > len(data):
            return data
        at += 2 + int.from_bytes(data[at : at + 2], "big")
    return data[:at] if at <= len(data) else data


MAX_BUNDLE_BYTES = TILE_WIDTH * (2 + MAX_ENTRY_BYTES)
