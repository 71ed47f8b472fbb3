"""Section 16 of proto/SPEC.md for `spec_verifier`: receipts, check by check; from that text alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple

from tests.vectors.spec_notes import (
    Checkpoint,
    Fault,
    Vkey,
    b64,
    decimal,
    demand,
    h,
    parse_checkpoint,
    parse_vkey,
    split_origin,
    verifies,
)
from tests.vectors.spec_tree import included
from tests.vectors.spec_verifier import Entry, parse_entry, parse_payload

STRINGS = ("id", "site", "recordedAt", "leafHash", "entry", "salt", "payload", "position")
NEEDS = {
    "receipt": (),
    "entry": ("receipt",),
    "position": ("entry",),
    "commitment": ("entry",),
    "payload": ("receipt",),
    "log": ("receipt",),
    "signature": ("entry",),
    "proof": ("receipt",),
    "checkpoint": ("log", "proof"),
    "inclusion": ("entry", "proof"),
    "witnesses": ("proof",),
    "time": ("entry",),
}


class Judgement(NamedTuple):
    verdict: str
    results: dict[str, str]

    @property
    def failed(self) -> list[str]:
        return [name for name, result in self.results.items() if result == "failed"]


class Receipts:
    """What a reader brought along; judges one receipt after the other."""

    def __init__(
        self, log_vkeys: list[str], witnesses: list[str], log_id: bytes | None = None, ingest: bytes | None = None
    ) -> None:
        self.log_vkeys = [parse_vkey(text, 1) for text in log_vkeys]
        self.demanded = [parse_vkey(text, 4) for text in witnesses]
        self.log_id, self.ingest = log_id, ingest

    def judge(self, file: bytes) -> Judgement:
        results: dict[str, str] = {}
        one = _One(self, file)
        for name, needs in NEEDS.items():
            check: Callable[[], bool] = getattr(one, name)
            if any(results[other] != "ok" for other in needs):
                results[name] = "not checked"
                continue
            try:
                results[name] = "ok" if check() else "not checked"
            except Fault:
                results[name] = "failed"
        if "failed" in results.values():
            return Judgement("failed", results)
        if all(results[name] == "ok" for name in NEEDS if name not in ("signature", "witnesses", "time")):
            return Judgement("verified", results)
        return Judgement("accepted" if results["signature"] == "ok" else "unproven", results)


class _One:
    """A receipt. Each method is the check of its name: True is ok, False is not checked."""

    def __init__(self, brought: Receipts, file: bytes) -> None:
        self.brought, self.file = brought, file
        self.members: dict[str, Any] = {}
        self.raw = self.salt = self.opened = b""
        self.parsed: Entry | None = None
        self.head: Checkpoint | None = None
        self.path: list[bytes] = []
        self.cosigned: list[int] = []

    def receipt(self) -> bool:
        demand(len(self.file) <= 524_288, 1, "too long")
        self.members = read_object(self.file)
        demand(all(isinstance(self.members.get(name), str) for name in STRINGS), 1, "a string is missing")
        demand(type(self.members.get("seq")) is int, 1, "seq is no integer")
        proof = self.members.get("proof", "none")
        demand(isinstance(proof, str) and proof != "", 1, "proof is no string")
        b64(self.members["leafHash"])
        self.raw, self.salt, self.opened = (b64(self.members[name]) for name in ("entry", "salt", "payload"))
        return True

    def entry(self) -> bool:
        self.parsed = parse_entry(self.raw)
        demand(self.parsed.kind == 1 and self.parsed.public == b"", 5, "not an event's entry")
        return True

    def position(self) -> bool:
        assert self.parsed is not None
        seq, members = self.parsed.seq, self.members
        demand(members["seq"] == seq, 3, "another seq")
        demand(members["recordedAt"] == time_text(self.parsed.ms), 3, "another time")
        demand(b64(members["leafHash"]) == h(b"\x00", self.raw), 3, "another leaf hash")
        demand(members["position"] == f"{members['site']}:{seq}", 3, "another position")
        return True

    def commitment(self) -> bool:
        assert self.parsed is not None
        fits = h(b"consent-ledger/v1 commit\n", self.salt, self.opened) == self.parsed.commit
        demand(len(self.salt) == 32 and fits, 10, "not what the entry commits to")
        return True

    def payload(self) -> bool:
        event = parse_payload(self.opened, 1, 0)
        demand((event["id"], event["site"]) == (self.members["id"], self.members["site"]), 10, "another event")
        return True

    def log(self) -> bool:
        sites = []
        for vkey in self.brought.log_vkeys:
            try:
                sites.append(split_origin(vkey.name))
            except Fault:
                continue
        demand(self.members["site"] in sites, 1, "no key of this site's log")
        return True

    def signature(self) -> bool:
        assert self.parsed is not None
        ingest, log_id = self.brought.ingest, self.brought.log_id
        if ingest is None or log_id is None:
            return False
        made = verifies(ingest, self.parsed.core(log_id), self.parsed.signature)
        demand(h(ingest) == self.parsed.signer and made, 7, "not signed by the ingest key")
        return True

    def proof(self) -> bool:
        if "proof" not in self.members:
            return False
        try:
            text = self.members["proof"].encode("utf-8")
        except UnicodeEncodeError as error:
            raise Fault(1, "a surrogate") from error
        above, _, note = text.partition(b"\n\n")
        lines = above.decode("utf-8").split("\n")
        demand(lines[0] == "c2sp.org/tlog-proof@v1", 1, "not a proof")
        demand(len(lines) >= 2 and lines[1].startswith("index "), 1, "no index")
        index = decimal(lines[1].removeprefix("index "))
        self.path = [b64(line) for line in lines[2:]]
        demand(len(self.path) <= 64 and all(len(one) == 32 for one in self.path), 1, "too many hashes, or no hashes")
        self.head = parse_checkpoint(note)
        demand(index < self.head.size and index == self.members["seq"], 3, "another index")
        return True

    def checkpoint(self) -> bool:
        assert self.head is not None
        mine: list[Vkey] = [vkey for vkey in self.brought.log_vkeys if vkey.name == self.head.origin]
        demand(split_origin(self.head.origin) == self.members["site"], 1, "another site's")
        demand(True in [self.head.signed_by(vkey) for vkey in mine], 4, "the log key did not sign")
        return True

    def inclusion(self) -> bool:
        assert self.head is not None
        leaf, index = h(b"\x00", self.raw), self.members["seq"]
        demand(included(leaf, index, self.head.size, self.path, self.head.root), 2, "not included")
        return True

    def witnesses(self) -> bool:
        assert self.head is not None
        good = True
        for vkey in self.brought.demanded:
            try:
                times = self.head.cosigned_at(vkey)
            except Fault:
                times = []
            self.cosigned += times
            good = good and bool(times)
        demand(good, 6, "a witness did not cosign, or falsely")
        return bool(self.brought.demanded)

    def time(self) -> bool:
        assert self.parsed is not None
        demand(all(self.parsed.ms <= (t + 60) * 1000 for t in self.cosigned), 6, "later than a cosignature")
        return bool(self.cosigned)


def read_object(file: bytes) -> dict[str, Any]:
    """JSON in any formatting; each member once, not too deep."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        demand(len({name for name, _ in pairs}) == len(pairs), 1, "a doubled member")
        return dict(pairs)

    def never(text: str) -> None:
        raise Fault(1, f"{text} is no JSON")

    def depth(value: Any) -> int:
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
        return 0 if inner is None else 1 + max(map(depth, inner), default=0)

    try:
        members = json.loads(file.decode("utf-8"), object_pairs_hook=once, parse_constant=never)
        demand(isinstance(members, dict) and depth(members) <= 8, 1, "not an object, or too deep")
    except (ValueError, RecursionError) as error:
        raise Fault(1, "not JSON") from error
    assert isinstance(members, dict)
    return members


def time_text(ms: int) -> str:
    """A time in the form of section 6, by counting days; empty beyond the year 9999."""
    days, rest = divmod(ms, 86_400_000)
    year = 1970
    while year < 10_000:
        leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
        if days < 365 + leap:
            break
        days, year = days - 365 - leap, year + 1
    else:
        return ""
    month = 1
    for length in (31, 28 + leap, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31):
        if days < length:
            break
        days, month = days - length, month + 1
    seconds, milliseconds = divmod(rest, 1000)
    clock = f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}.{milliseconds:03d}Z"
    return f"{year:04d}-{month:02d}-{days + 1:02d}T{clock}"


def check_receipt(receipt: dict[str, Any], log_vkey: str, log_id: bytes, ingest: bytes | None) -> None:
    """`Fault` unless nothing is wrong with the receipt (as parsed JSON), proof or not."""
    judged = Receipts([log_vkey], [], log_id, ingest).judge(json.dumps(receipt).encode())
    demand(judged.verdict != "failed", 1, f"{judged.failed} failed")
