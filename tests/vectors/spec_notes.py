"""Sections 1, 2, 9, 10 and 12 of proto/SPEC.md for `spec_verifier`: notation, Ed25519, vkeys and checkpoints.

Made from that text alone. It imports nothing of `ledger` on purpose, and its Ed25519 is textbook arithmetic: slow.
"""

from __future__ import annotations

import base64
import re
import unicodedata
from functools import lru_cache
from hashlib import sha256, sha512
from typing import NamedTuple


class Fault(Exception):
    """A broken rule. `str(fault)` says what; `seq` is the entry to blame, if there is one."""

    def __init__(self, rule: int, detail: str, seq: int | None = None) -> None:
        super().__init__(f"rule {rule}, entry {seq}: {detail}")
        self.rule, self.seq = rule, seq


def demand(holds: bool, rule: int, detail: str, seq: int | None = None) -> None:
    if not holds:
        raise Fault(rule, detail, seq)


# --- 1 Notation ---------------------------------------------------------------------------------------------------


def h(*parts: bytes) -> bytes:
    return sha256(b"".join(parts)).digest()


def b64(text: str, rule: int = 1, seq: int | None = None) -> bytes:
    try:
        data = base64.b64decode(text.encode("ascii"), validate=True)
    except ValueError as error:
        raise Fault(rule, "not base64", seq) from error
    demand(base64.b64encode(data).decode() == text, rule, "not canonical base64", seq)
    return data


def decimal(text: str, rule: int = 1) -> int:
    demand(re.fullmatch(r"0|[1-9][0-9]{0,15}", text) is not None and int(text) < 2**53, rule, "not a canonical decimal")
    return int(text)


def split_origin(origin: str, rule: int = 1) -> str:
    prefix, slash, site = origin.rpartition("/")
    printable = re.fullmatch(r"[\x21-\x2a\x2c-\x7e]*", origin) is not None
    demand(printable and len(origin) <= 255 and bool(prefix and slash) and "." in site, rule, "not an origin")
    return site


# --- 9, 10 Keys and signatures: RFC 8032 ----------------------------------------------------------------------------

P = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
SQRT_M1 = pow(2, (P - 1) // 4, P)
Point = tuple[int, int, int, int]
NEUTRAL: Point = (0, 1, 1, 0)


def add(p: Point, q: Point) -> Point:
    a, b = (p[1] - p[0]) * (q[1] - q[0]) % P, (p[1] + p[0]) * (q[1] + q[0]) % P
    c, d = 2 * p[3] * q[3] * D % P, 2 * p[2] * q[2] % P
    e, f, g, i = b - a, d - c, d + c, b + a
    return e * f % P, g * i % P, f * g % P, e * i % P


def multiply(n: int, p: Point) -> Point:
    result = NEUTRAL
    while n:
        if n & 1:
            result = add(result, p)
        p, n = add(p, p), n >> 1
    return result


def is_neutral(p: Point) -> bool:
    return p[0] % P == 0 and (p[1] - p[2]) % P == 0


def encode_point(p: Point) -> bytes:
    inverse = pow(p[2], P - 2, P)
    x, y = p[0] * inverse % P, p[1] * inverse % P
    return (y | (x & 1) << 255).to_bytes(32, "little")


def decode_point(data: bytes) -> Point | None:
    """Any encoding of a point, canonical or not; None if there is no such point."""
    number = int.from_bytes(data, "little")
    sign, y = number >> 255, (number & 2**255 - 1) % P
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * SQRT_M1 % P
    if (x * x - square) % P:
        return None
    if x & 1 != sign:
        x = -x % P
    return x, y, 1, x * y % P


BASE = decode_point((4 * pow(5, P - 2, P) % P).to_bytes(32, "little")) or NEUTRAL


@lru_cache(maxsize=1_024)
def acceptable(public: bytes) -> bool:
    point = decode_point(public) if len(public) == 32 else None
    if point is None or encode_point(point) != public or is_neutral(point):
        return False
    return is_neutral(multiply(ORDER, point))


@lru_cache(maxsize=65_536)
def verifies(public: bytes, message: bytes, signature: bytes) -> bool:
    if len(signature) != 64:
        return False
    r, s = signature[:32], int.from_bytes(signature[32:], "little")
    a, small = decode_point(public), decode_point(r)
    if a is None or s >= ORDER or small is None or is_neutral(multiply(8, small)):
        return False
    k = int.from_bytes(sha512(r + public + message).digest(), "little") % ORDER
    minus_a = (-a[0] % P, a[1], a[2], -a[3] % P)
    return encode_point(add(multiply(s, BASE), multiply(k, minus_a))) == r


# --- 12 Notes -------------------------------------------------------------------------------------------------------


class Vkey(NamedTuple):
    name: str
    key_id: bytes
    type: int
    public: bytes


def fit_for_name(name: str) -> bool:
    return bool(name) and not any(c == "+" or c.isspace() or unicodedata.category(c) == "Cc" for c in name)


def parse_vkey(text: str, key_type: int, seq: int | None = None) -> Vkey:
    """A vkey from outside, or of the entry `seq`; its point is then judged by rule 8."""
    parts = text.split("+", 2)
    demand(len(parts) == 3 and fit_for_name(parts[0]), 1, "not a vkey", seq)
    key = b64(parts[2], 1, seq)
    demand(len(key) == 33 and key[0] == key_type, 1, f"not a vkey of type {key_type}", seq)
    key_id = h(parts[0].encode(), b"\n", key)[:4]
    demand(key_id.hex() == parts[1], 1, "the keyID is not the key's", seq)
    demand(acceptable(key[1:]), 1 if seq is None else 8, "the vkey's point is not acceptable", seq)
    return Vkey(parts[0], key_id, key_type, key[1:])


class Checkpoint(NamedTuple):
    body: bytes
    origin: str
    size: int
    root: bytes
    lines: list[tuple[str, bytes, bytes]]  # name, keyID, signature

    def of(self, key: Vkey) -> list[bytes]:
        return [value for name, key_id, value in self.lines if (name, key_id) == (key.name, key.key_id)]

    def signed_by(self, key: Vkey) -> bool:
        mine = self.of(key)
        demand(all(verifies(key.public, self.body, value) for value in mine), 4, "a bad line of a known log key")
        return bool(mine)

    def cosigned_at(self, key: Vkey) -> list[int]:
        times = []
        for value in self.of(key):
            seconds = int.from_bytes(value[:8], "big")
            message = f"cosignature/v1\ntime {seconds}\n".encode() + self.body
            good = len(value) == 72 and seconds < 2**53 and verifies(key.public, message, value[8:])
            demand(good, 6, "a bad cosignature of a trusted witness")
            times.append(seconds)
        return times


def parse_checkpoint(data: bytes) -> Checkpoint:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Fault(1, "a checkpoint that is not UTF-8") from error
    demand(
        len(data) <= 65_536 and not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", text), 1, "too long, or a control character"
    )
    lines = text.split("\n")
    demand(len(lines) >= 6 and lines[3] == "" and lines.pop() == "" and len(lines) <= 104, 1, "not a checkpoint")
    split_origin(lines[0])
    root = b64(lines[2])
    demand(len(root) == 32, 1, "a root hash of another length")
    signatures = []
    for line in lines[4:]:
        parts = line.split(" ")
        demand(len(parts) == 3 and parts[0] == "—" and fit_for_name(parts[1]), 1, "not a signature line")
        value = b64(parts[2])
        demand(len(value) > 4, 1, "a signature line without signature")
        signatures.append((parts[1], value[:4], value[4:]))
    body = "".join(f"{line}\n" for line in lines[:3]).encode()
    return Checkpoint(body, lines[0], decimal(lines[1]), root, signatures)
