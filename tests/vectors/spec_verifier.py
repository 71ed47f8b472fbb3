"""A second verifier of bundles, made from proto/SPEC.md alone with nothing but Python's standard library.

It imports nothing of `ledger` on purpose: where the two disagree, the text or one of them is wrong. It stops at the
first fault and keeps everything in memory.
"""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from typing import Any, NamedTuple

from tests.vectors.spec_notes import (
    Fault,
    acceptable,
    b64,
    demand,
    h,
    parse_checkpoint,
    parse_vkey,
    split_origin,
    verifies,
)
from tests.vectors.spec_tree import check_tree, read_entries, root_of

# --- 3, 4 Entries ---------------------------------------------------------------------------------------------------


class Entry(NamedTuple):
    seq: int
    ms: int
    prev: bytes
    kind: int
    commit: bytes
    signer: bytes
    signature: bytes
    public: bytes

    def core(self, log: bytes) -> bytes:
        length = len(self.public).to_bytes(2, "big")
        return b"consent-ledger/v1 entry\n" + log + bytes([self.kind]) + self.commit + length + self.public


def parse_entry(data: bytes, index: int | None = None) -> Entry:
    demand(180 <= len(data) <= 65_535 and data[0] == 1, 1, "not an entry of version 1", index)
    seq, ms = (int.from_bytes(data[at : at + 8], "big") for at in (1, 9))
    demand(seq < 2**53 and ms < 2**53, 1, "seq or time not below 2^53", index)
    demand(int.from_bytes(data[178:180], "big") == len(data) - 180, 1, "another length than it says", index)
    return Entry(seq, ms, data[17:49], data[49], data[50:82], data[82:114], data[114:178], data[180:])


def erased_seqs(public: bytes, seq: int) -> list[int]:
    seqs = [int.from_bytes(public[at : at + 8], "big") for at in range(0, len(public), 8)]
    demand(len(public) % 8 == 0 and 1 <= len(seqs) <= 4_096, 5, "not the public part of an erasure", seq)
    return seqs


# --- 6, 7, 8 Payloads -----------------------------------------------------------------------------------------------

SHORT = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
TIME = r"([0-9]{4})-([0-9]{2})-([0-9]{2})T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]\.[0-9]{3}Z"
WORDS = "accept_all|only_necessary|customize|settings|withdraw|dismiss|gpc|api|import|guardian"
EVENT = {
    "account": "[0-9a-f]{32}",
    "action": WORDS,
    "authentication": "secret|ledger",
    "citedPolicyVersion": r"(?s:.{1,64})",
    "citedShown": "[0-9a-f]{64}",
    "component": WORDS,
    "gppString": "[A-Za-z0-9_.~+/=-]{1,4096}",
    "id": "[0-9a-f]{8}-[0-9a-f]{4}-[1-8][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}",
    "language": "[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8}){0,7}",
    "occurredAt": TIME,
    "original": r"(?s:.{1,8192})",
    "policyVersion": "[0-9A-Za-z.-]{1,32}",
    "region": "[A-Z]{2}(-[A-Z0-9]{1,3})?",
    "sentAt": TIME,
    "shown": "[0-9a-f]{64}",
    "site": "(?s:.+)",
    "tcString": "[A-Za-z0-9_.~+/=-]{1,4096}",
    "type": r"consent\.(given|refused|withdrawn|dismissed|expired|invalidated)|notice\.seen|account\.(un)?linked",
    "visitor": "[A-Za-z0-9_-]{22,64}",
}
EVENT_NEEDS = {"id", "site", "type", "visitor"}
TYPED = {"account", "action", "decisions", "lapsed"}
OfType = tuple[set[str], set[str]]  # which of TYPED a type needs, and what else of TYPED it may have
CHOICE: OfType = ({"action", "decisions"}, {"account"})
OWN: OfType = ({"authentication", "lapsed"}, {"account"})
OF_TYPE: dict[str, OfType] = {
    "consent.given": CHOICE,
    "consent.refused": CHOICE,
    "consent.withdrawn": CHOICE,
    "consent.dismissed": ({"action"}, set()),
    "notice.seen": (set(), set()),
    "account.linked": ({"account"}, set()),
    "account.unlinked": ({"account"}, set()),
    "consent.expired": OWN,
    "consent.invalidated": OWN,
}
ERASURE = {
    "evidence": "(?s:.+)",
    "instruction": "(?s:.+)",
    "reason": "subject_request|retention|controller_instruction|legal_order|capture_error",
    "requestedAt": TIME,
    "site": "(?s:.+)",
}
LINE = r"[^\x00-\x1f\x7f]"
ACT = {
    "act": r"site\.(added|closed)|key\.(created|revoked|introduced|retired|rotated)|master\.rotated|policy\.published"
    r"|document\.uploaded|cookies\.reviewed|erasure\.(ordered|executed|lifted|confirmed)|held\.(opened|released)|retention\.run"
    r"|request\.(registered|forwarded|extended|instructed|answered)|export\.(made|downloaded)|backup\.(made|restored)"
    r"|log\.recovered",
    "actor": LINE + "{1,128}",
    "address": "[0-9a-f.:]{2,45}",
    "flagged": "infringes_law|infringes_rights|no_legal_basis|exceeds_contract|unclear",
    "id": EVENT["id"],
    "instruction": LINE + "{1,512}",
    "occurredAt": TIME,
    "role": "operator|controller|api_key|visitor|ledger",
    "site": EVENT["site"],
    "type": r"admin\.act",
}
PURPOSE = r"\*|[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}"


def encode(value: Any, depth: int = 0) -> str:
    """The one text of a value; ValueError where there is none."""
    if depth > 8 or value in (None, False, 0, "", [], {}):
        raise ValueError("too deep, or at its default")
    if value is True:
        return "true"
    if isinstance(value, str):
        return '"' + "".join(SHORT.get(c) or (f"\\u{ord(c):04x}" if c < " " else c) for c in value) + '"'
    if isinstance(value, list):
        return "[" + ",".join(encode(inner, depth + 1) for inner in value) + "]"
    if isinstance(value, dict):
        members = sorted(value.items(), key=lambda member: member[0].encode())
        return "{" + ",".join(encode(name) + ":" + encode(inner, depth + 1) for name, inner in members) + "}"
    if isinstance(value, int) and -(2**53) < value < 2**53:
        return str(value)
    raise ValueError("a value that payloads do not hold")


def is_time(text: str) -> bool:
    match = re.fullmatch(TIME, text)
    if match is None:
        return False
    year, month, day = (int(match[n]) for n in (1, 2, 3))
    leap = 29 if year % 4 == 0 and (year % 100 != 0 or year % 400 == 0) else 28
    days = (31, leap, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
    return year > 0 and 1 <= month <= 12 and 1 <= day <= days[month - 1]


def is_answer(name: str, value: Any) -> bool:
    if name == "decisions":
        return value in ("granted", "denied")
    return type(value) is int and value >= 1  # `encode` bounds it above


def parse_payload(data: bytes, kind: int, seq: int) -> dict[str, Any]:
    try:
        payload = json.loads(data.decode("utf-8"))
        good = isinstance(payload, dict) and encode(payload).encode("utf-8") == data
    except (ValueError, RecursionError) as error:
        raise Fault(10, "a payload that is not JSON as it should be", seq) from error
    demand(good, 10, "a payload that is not in its one encoding", seq)
    if kind == 1 and str(payload.get("site", "")).endswith(".admin-log"):
        return parse_act(payload, seq)
    members = set(payload)
    maps = {name: payload.pop(name) for name in ("decisions", "lapsed") if kind == 1 and name in payload}
    flags = [payload.pop(name) for name in ("conditional", "gpc") if kind == 1 and name in payload]
    form = EVENT if kind == 1 else ERASURE
    for name, value in payload.items():
        fits = name in form and isinstance(value, str) and re.fullmatch(form[name], value) is not None
        demand(fits and (form[name] != TIME or is_time(value)), 10, f"the payload's {name}", seq)
    if kind == 1:
        demand(members >= EVENT_NEEDS and all(flag is True for flag in flags), 10, "not an event", seq)
        for name, held in maps.items():
            fits = isinstance(held, dict) and len(held) <= 64 and all(re.fullmatch(PURPOSE, n) for n in held)
            demand(fits and all(is_answer(name, value) for value in held.values()), 10, f"the payload's {name}", seq)
        needed, possible = OF_TYPE[payload["type"]]
        demand(needed <= members and members & TYPED <= needed | possible, 10, "not an event of its type", seq)
        own = payload.get("authentication") == "ledger"
        demand(own == (OF_TYPE[payload["type"]] is OWN), 10, "an event of the ledger's own, or not", seq)
    else:
        demand(payload.keys() == ERASURE.keys(), 10, "not an erasure record", seq)
    return payload


def parse_act(act: dict[str, Any], seq: int) -> dict[str, Any]:
    details = act.pop("details", None)
    for name, value in act.items():
        fits = name in ACT and isinstance(value, str) and re.fullmatch(ACT[name], value) is not None
        demand(fits and (ACT[name] != TIME or is_time(value)), 10, f"the act's {name}", seq)
    demand(act.keys() >= ACT.keys() - {"address", "flagged", "instruction"}, 10, "not an act", seq)
    if details is not None:
        demand(isinstance(details, dict) and len(details) <= 16, 10, "the act's details", seq)
        for name, text in details.items():
            fits = isinstance(text, str) and re.fullmatch(LINE + "{1,4096}", text) is not None
            demand(fits and re.fullmatch("[a-z][A-Za-z0-9]{0,31}", name) is not None, 10, f"the detail {name}", seq)
    return act


# --- 9, 15 The audit ------------------------------------------------------------------------------------------------


class Keys:
    """The key set as of the entries applied so far."""

    def __init__(self, genesis: Entry, origin: str, log_id: bytes) -> None:
        lines = genesis.public.decode("ascii", "replace").split("\n")
        demand(len(lines) == 4 and lines[3] == "", 5, "genesis has three lines", 0)
        vkey = parse_vkey(lines[0], 1, 0)
        ingest, self.root = b64(lines[1], 1, 0), b64(lines[2], 1, 0)
        demand(vkey.name == origin, 8, "the log key's name is not the origin", 0)
        demand(acceptable(ingest) and acceptable(self.root), 8, "an unacceptable key", 0)
        self.seen = {vkey.public, ingest, self.root}
        demand(len(self.seen) == 3, 8, "one key in two roles", 0)
        self.origin, self.log_id = origin, log_id
        self.log = {h(lines[0].encode()): vkey}
        self.ever_log = [vkey]
        self.ingest = {h(ingest): ingest}

    def apply(self, public: bytes, seq: int) -> None:
        operation, rest = public[:1], public[1:]
        if operation == b"\x01":
            demand(len(rest) == 96, 5, "an introduction of another length", seq)
            message = b"consent-ledger/v1 key\n" + self.log_id + rest[:32]
            demand(acceptable(rest[:32]) and rest[:32] not in self.seen, 8, "an unacceptable or known key", seq)
            demand(verifies(rest[:32], message, rest[32:]), 8, "the proof of possession fails", seq)
            self.seen.add(rest[:32])
            self.ingest[h(rest[:32])] = rest[:32]
        elif operation == b"\x02":
            demand(self.ingest.pop(rest, None) is not None, 8, "no such active ingest key", seq)
        elif operation == b"\x03":
            vkey = parse_vkey(rest.decode("ascii", "replace"), 1, seq)
            demand(vkey.name == self.origin and vkey.public not in self.seen, 8, "another name or a known key", seq)
            self.seen.add(vkey.public)
            self.log[h(rest)] = vkey
            self.ever_log.append(vkey)
        elif operation == b"\x04":
            demand(self.log.pop(rest, None) is not None, 8, "no such active log key", seq)
        else:
            raise Fault(8 if operation else 5, "an unknown operation, or none", seq)


class Report(NamedTuple):
    exit: int  # 0 or 3
    size: int
    pinned: bool  # False: the root key was asserted by the log itself
    longest_gap_seconds: int | None


def audit(
    bundle: Path, log_vkey: str, log_id: bytes | None = None, old: bytes | None = None, witnesses: tuple[str, ...] = ()
) -> Report:
    """Check a bundle by the fourteen rules; `Fault` at the first that is broken."""
    key = parse_vkey(log_vkey, 1)
    trusted = [parse_vkey(witness, 4) for witness in witnesses]
    checkpoint = parse_checkpoint((bundle / "checkpoint").read_bytes())  # without it there is nothing to audit
    demand(key.name == checkpoint.origin, 1, "the vkey is of another log")
    site = split_origin(checkpoint.origin)
    old_one = None if old is None else parse_checkpoint(old)
    paths = sorted(bundle.glob("checkpoints/*"))
    demand(all(path.is_file() for path in paths), 1, "a kept checkpoint that is no file")
    kept = [parse_checkpoint(path.read_bytes()) for path in paths]
    others = [*kept, old_one] if old_one else kept

    raw = read_entries(bundle, checkpoint.size)
    entries = [parse_entry(data, index) for index, data in enumerate(raw)]
    leaves = [h(b"\x00", data) for data in raw]
    check_tree(bundle, checkpoint.root, leaves)
    demand(bool(leaves), 4, "an empty log has no active log key")
    demand(log_id in (None, leaves[0]), 4, "the log id is another")
    opened = (bundle / "payloads.ndjson").is_file()
    documents = {path.name: h(path.read_bytes()).hex() == path.name for path in bundle.glob("documents/*")}
    keys, versions, erased = check_log(entries, leaves, checkpoint.origin, documents, opened)

    known = {*keys.ever_log, key}
    signers = {one for one in known if checkpoint.signed_by(one)}
    old_signed = False
    for other in others:
        demand(other.origin == checkpoint.origin and other.size <= checkpoint.size, 4, "a checkpoint of another log")
        demand(other.root == root_of(leaves[: other.size]), 4, "an older checkpoint has another root")
        signed = {one for one in known if other.signed_by(one)}
        old_signed = old_signed or (other is old_one and key in signed)
        demand(bool(signed) or other is old_one, 4, "a kept checkpoint that no log key signed")
    demand(key in signers or old_signed, 4, "the key brought along signed neither checkpoint")
    demand(bool(signers & set(keys.log.values())), 4, "no active log key signed this checkpoint")

    times = []
    for other in [checkpoint, *others]:
        for second in [t for witness in trusted for t in other.cosigned_at(witness)]:
            times.append(second)
            late = other.size > 0 and entries[other.size - 1].ms > (second + 60) * 1000
            demand(not late, 6, "an entry is later than a cosignature that covers it", other.size - 1)
    times.sort()
    gap = max((b - a for a, b in itertools.pairwise(times)), default=None)

    if opened:
        check_openings((bundle / "payloads.ndjson").read_bytes(), entries, site, versions, erased, documents)
    pinned = log_id is not None or (old_one is not None and old_one.size > 0)
    return Report(0 if opened else 3, checkpoint.size, pinned, gap)


def check_log(
    entries: list[Entry], leaves: list[bytes], origin: str, documents: dict[str, bool], opened: bool
) -> tuple[Keys, dict[str, int], dict[int, int]]:
    """Rules 3, 5 to 9 and 11: the key set at the end, the seqs of policy versions, erased seqs and their erasures."""
    keys: Keys | None = None
    versions: dict[str, int] = {}
    erased: dict[int, int] = {}
    once: set[tuple[str, bytes]] = set()
    for i, entry in enumerate(entries):
        demand(entry.seq == i and entry.prev == (leaves[i - 1] if i else bytes(32)), 3, "the chain is broken", i)
        demand(i == 0 or entry.ms >= entries[i - 1].ms, 6, "time decreases", i)
        demand(entry.kind <= 4 and (entry.kind == 0) == (i == 0), 5, "a kind that may not stand here", i)
        demand(entry.kind in (1, 3) or entry.commit == bytes(32), 5, "a commitment where none may be", i)
        demand(entry.kind != 1 or not entry.public, 5, "an event's public part is empty", i)
        if keys is None:
            keys = Keys(entry, origin, leaves[0])
        core = entry.core(leaves[0] if i else h(origin.encode()))
        by_root = entry.kind in (0, 2)
        signer = keys.root if by_root and h(keys.root) == entry.signer else None
        signer = signer if by_root else keys.ingest.get(entry.signer)
        demand(signer is not None, 7, "signed by none who may", i)
        demand(signer is not None and verifies(signer, core, entry.signature), 7, "a bad signature", i)
        marks = [("core", core)] + ([("commit", entry.commit)] if entry.kind in (1, 3) else [])
        demand(not once & set(marks), 9, "a core or commitment that was there before", i)
        once |= set(marks)
        if entry.kind == 2:
            keys.apply(entry.public, i)
        elif entry.kind == 3:
            seqs = erased_seqs(entry.public, i)
            demand(all(a < b for a, b in itertools.pairwise(seqs)), 11, "seqs that do not ascend", i)
            fine = all(seq < i and entries[seq].kind == 1 and seq not in erased for seq in seqs)
            demand(fine, 11, "an erasure of what is no living event", i)
            erased |= dict.fromkeys(seqs, i)
        elif entry.kind == 4:
            version = entry.public[32:].decode("latin-1")
            demand(re.fullmatch("[0-9A-Za-z.-]{1,32}", version) is not None, 5, "not a version", i)
            demand(version not in versions, 9, "a version used twice", i)
            demand(documents.get(entry.public[:32].hex(), not opened), 9, "the document is missing or altered", i)
            versions[version] = i
    assert keys is not None
    return keys, versions, erased


def parse_opening(line: bytes) -> tuple[int, bytes, bytes]:
    """Seq, salt and payload of a line (rule 1)."""
    try:
        members = json.loads(line.decode("utf-8"), object_pairs_hook=list)
    except (ValueError, RecursionError) as error:
        raise Fault(1, "a line of payloads.ndjson that is not JSON") from error
    demand(
        isinstance(members, list) and sorted(str(name) for name, *_ in members) == ["payload", "salt", "seq"],
        1,
        "not an opening",
    )
    opening = dict(members)
    seq = opening["seq"]
    demand(type(seq) is int and 0 <= seq < 2**53, 1, "not a seq")
    texts = opening["salt"], opening["payload"]
    demand(all(isinstance(text, str) for text in texts), 1, "not base64")
    return seq, b64(texts[0]), b64(texts[1])


def check_openings(
    lines: bytes,
    entries: list[Entry],
    site: str,
    versions: dict[str, int],
    erased: dict[int, int],
    documents: dict[str, bool],
) -> None:
    """Rules 9, 10 and 12."""
    opened: set[int] = set()
    ids: set[str] = set()
    for line in lines.removesuffix(b"\n").split(b"\n") if lines else []:
        seq, salt, payload = parse_opening(line)
        demand(seq < len(entries) and entries[seq].kind in (1, 3), 10, "an opening of nothing that has one", seq)
        demand(seq > max(opened, default=-1), 10, "openings do not ascend", seq)
        demand(len(salt) == 32, 10, "a salt of another length", seq)
        demand(h(b"consent-ledger/v1 commit\n", salt, payload) == entries[seq].commit, 10, "another commitment", seq)
        members = parse_payload(payload, entries[seq].kind, seq)
        demand(members["site"] == site, 10, "the payload is another site's", seq)
        demand(seq not in erased, 12, "both opened and erased", seq)
        opened.add(seq)
        if entries[seq].kind == 1:
            demand(members["id"] not in ids, 9, "an event id used twice", seq)
            ids.add(members["id"])
            cited = members.get("policyVersion")
            demand(cited is None or versions.get(cited, seq) < seq, 9, "cites a version that was not there", seq)
            shown = members.get("shown")
            demand(shown is None or documents.get(shown, False), 9, "what was shown is not at hand", seq)
    for seq, entry in enumerate(entries):
        demand(entry.kind not in (1, 3) or seq in opened or seq in erased, 12, "neither opened nor erased", seq)
