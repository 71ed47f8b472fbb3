"""Sections 11 and 13 of proto/SPEC.md for `spec_verifier`: the tree, its proofs and its tiles; from that text alone."""

from __future__ import annotations

from pathlib import Path

from tests.vectors.spec_notes import demand, h


def root_of(leaves: list[bytes]) -> bytes:
    if len(leaves) < 2:
        return leaves[0] if leaves else h()
    k = 1 << (len(leaves) - 1).bit_length() - 1
    return h(b"\x01", root_of(leaves[:k]), root_of(leaves[k:]))


def included(leaf: bytes, index: int, size: int, proof: list[bytes], root: bytes) -> bool:
    f, s, r = index, size - 1, leaf
    if index >= size:
        return False
    for p in proof:
        if s == 0:
            return False
        if f & 1 or f == s:
            r = h(b"\x01", p, r)
            while f and not f & 1:
                f, s = f >> 1, s >> 1
        else:
            r = h(b"\x01", r, p)
        f, s = f >> 1, s >> 1
    return s == 0 and r == root


def consistent(m: int, n: int, proof: list[bytes], old_root: bytes, new_root: bytes) -> bool:
    if m in (0, n):
        return not proof and old_root == (new_root if m == n else h())
    hashes = [old_root, *proof] if m & (m - 1) == 0 else proof
    if not hashes:
        return False
    f, s = m - 1, n - 1
    while f & 1:
        f, s = f >> 1, s >> 1
    a = b = hashes[0]
    for p in hashes[1:]:
        if s == 0:
            return False
        if f & 1 or f == s:
            a, b = h(b"\x01", p, a), h(b"\x01", p, b)
            while f and not f & 1:
                f, s = f >> 1, s >> 1
        else:
            b = h(b"\x01", b, p)
        f, s = f >> 1, s >> 1
    return s == 0 and a == old_root and b == new_root


def tile_path(level: int | str, n: int, width: int) -> str:
    groups = [f"{n % 1000:03d}"]
    while n >= 1000:
        n //= 1000
        groups.insert(0, f"x{n % 1000:03d}")
    return f"tile/{level}/{'/'.join(groups)}" + ("" if width == 256 else f".p/{width}")


def read_tiles(bundle: Path, level: int | str, count: int) -> list[tuple[int, bytes]]:
    """Width and bytes of every tile of a row of `count` items."""
    tiles = []
    for n in range((count + 255) // 256):
        width = min(256, count - 256 * n)
        path = tile_path(level, n, width)
        demand((bundle / path).is_file(), 2, f"{path} is missing")
        tiles.append((width, (bundle / path).read_bytes()))
    return tiles


def read_entries(bundle: Path, size: int) -> list[bytes]:
    entries = []
    for width, data in read_tiles(bundle, "entries", size):
        at = 0
        for _ in range(width):
            end = at + 2 + int.from_bytes(data[at : at + 2], "big")
            demand(at + 2 <= len(data) and end <= len(data), 1, "an entry bundle that is cut short")
            entries.append(data[at + 2 : end])
            at = end
        demand(at == len(data), 1, "bytes behind an entry bundle")
    return entries


def check_tree(bundle: Path, root: bytes, leaves: list[bytes]) -> None:
    demand(root_of(leaves) == root, 2, "the entries lead to another root")
    level, row = 0, leaves
    while row:
        stored = read_tiles(bundle, level, len(row))
        for n, (width, data) in enumerate(stored):
            demand(data == b"".join(row[256 * n : 256 * n + width]), 2, f"tile {n} of level {level} differs")
        row = [root_of(row[at : at + 256]) for at in range(0, len(row) - 255, 256)]
        level += 1
