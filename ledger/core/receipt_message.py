"""The JSON message `Receipt`, read strictly from a file in any formatting (SPEC.md section 16).

Only its form is judged here; whether its parts belong together is judged in core/receipt.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from ledger.core.encoding import decode_base64
from ledger.core.errors import Malformed

MAX_RECEIPT_BYTES = 512 * 1024
"""Above any entry, payload and proof in base64 together."""
MAX_DEPTH = 8
"""Of arrays and objects in the JSON text, the receipt itself being the first."""


class Receipt(NamedTuple):
    """The message with its base64 decoded. `ignored` are members that no check covers."""

    id: str
    site: str
    seq: int
    recorded_at: str
    leaf_hash: bytes
    entry: bytes
    salt: bytes
    payload: bytes
    position: str
    proof: str | None
    ignored: tuple[str, ...]


def parse_receipt(data: bytes) -> Receipt:
    """The message from JSON in any formatting; `Malformed` on a doubled, missing or mistyped member, base64 that is
    not canonical, or too much of it."""
    if len(data) > MAX_RECEIPT_BYTES:
        raise Malformed(f"a receipt has at most {MAX_RECEIPT_BYTES} bytes")
    members = _read_json(data)
    texts: dict[str, str] = {}
    for name in ("id", "site", "recordedAt", "leafHash", "entry", "salt", "payload", "position"):
        if not isinstance(members.get(name), str):
            raise Malformed(f"the receipt's member {name!r} is missing or is no string")
        texts[name] = members[name]
    seq, proof = members.get("seq"), members.get("proof")
    if type(seq) is not int:
        raise Malformed("the receipt's member 'seq' is missing or is no integer")
    if "proof" in members and (not isinstance(proof, str) or not proof):
        raise Malformed("the receipt's member 'proof' is no text")
    known = {*texts, "seq", "proof"}
    return Receipt(
        texts["id"],
        texts["site"],
        seq,
        texts["recordedAt"],
        _bytes_of(texts, "leafHash"),
        _bytes_of(texts, "entry"),
        _bytes_of(texts, "salt"),
        _bytes_of(texts, "payload"),
        texts["position"],
        proof,
        tuple(name for name in members if name not in known),
    )


def _bytes_of(texts: dict[str, str], name: str) -> bytes:
    try:
        return decode_base64(texts[name])
    except Malformed as error:
        raise Malformed(f"the receipt's member {name!r} is not canonical base64") from error


def _read_json(data: bytes) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) != len(pairs):
            raise Malformed("a member appears twice in the receipt")
        return dict(pairs)

    def refuse(constant: str) -> None:
        raise Malformed(f"{constant} is no JSON")

    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=unique, parse_constant=refuse)
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
        raise Malformed("the receipt is not JSON in UTF-8") from error
    if not isinstance(value, dict):
        raise Malformed("the receipt is not a JSON object")
    _bound_depth(value, 1)
    return value


def _bound_depth(value: Any, depth: int) -> None:
    if isinstance(value, dict | list):
        if depth > MAX_DEPTH:
            raise Malformed(f"the receipt is nested deeper than {MAX_DEPTH} levels")
        for inner in value.values() if isinstance(value, dict) else value:
            _bound_depth(inner, depth + 1)
