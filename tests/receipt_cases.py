"""Receipts that were tampered with, each with the checks that have to fail and no others.

`GOOD` is sound; `TAMPERED` receipts are verified with the log's key and the witness `W1`, `NO_RECEIPT` are files.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Callable
from typing import Any

from ledger.core import entry, keys
from tests.logbuilder import LogBuilder, key, witness
from tests.receipts import Receipt, b64, encode, proof_of, receipt_of

SEQ = 5
LOG = LogBuilder()
LOG.policy()
LOG.events(11)
COSIGNED_AT = LOG.now_ms // 1000 + 2
W1, W2 = witness("witness.example/w1"), witness("witness.example/w2")
HEAD = LOG.checkpoint(cosigned=[(W1.name, COSIGNED_AT)])
GOOD = receipt_of(LOG, SEQ, HEAD)
OTHER_LOG = LogBuilder("ledger.example/we-nera.com")
OTHER_LOG.events(8)
LATER = LogBuilder("ledger.example/2027/weco.nexaxt.com")
LATER.events(8)


def cosigned(log: LogBuilder, seq: int) -> Receipt:
    return receipt_of(log, seq, cosigned=[(W1.name, log.now_ms // 1000 + 2)])


def flipped(name: str, at: int = -1) -> Receipt:
    data = bytearray(b64decode(GOOD[name]))
    data[at] ^= 1
    return GOOD | {name: b64(bytes(data))}


def with_proof(change: Callable[[str], str]) -> Receipt:
    changed = change(GOOD["proof"])
    assert changed != GOOD["proof"]
    return GOOD | {"proof": changed}


def with_payload(change: Callable[[bytes], bytes]) -> Receipt:
    """A log whose event has that payload, so that nothing but the payload is wrong."""
    log = LogBuilder()
    payload = change(log.payload())
    seq = log.append_opened(entry.Kind.EVENT, payload)
    log.events(2)
    return cosigned(log, seq)


def of_other_entry(kind: int, public: bytes = b"") -> Receipt:
    """An entry that is no event's, with an opening as if it were."""
    log = LogBuilder()
    seq = log.append_opened(kind, log.payload(), public)
    return cosigned(log, seq)


def forged(**overrides: Any) -> Receipt:
    """An event whose entry has other fields, in a log that is consistent upon it."""
    log = LogBuilder()
    seq = log.append_opened(entry.Kind.EVENT, log.payload(), **overrides)
    return cosigned(log, seq)


def bad(line: str) -> str:
    """A signature line whose last byte is another."""
    head, _, value = line.rpartition(" ")
    data = bytearray(b64decode(value))
    data[-1] ^= 1
    return f"{head} {b64(bytes(data))}"


FAR_AHEAD = b64decode(GOOD["entry"])[:9] + (2**53 - 1).to_bytes(8, "big") + b64decode(GOOD["entry"])[17:]
FIRST_HASH = GOOD["proof"].split("\n")[2]
LOG_LINE = next(line for line in GOOD["proof"].split("\n") if line.startswith("— ledger."))
WITNESS_LINE = next(line for line in GOOD["proof"].split("\n") if line.startswith("— witness."))

TAMPERED: dict[str, tuple[list[str], Receipt]] = {
    "the id is of another event": (["payload"], GOOD | {"id": "01980000-0000-7000-8000-00000000000f"}),
    "the site is another": (["position", "payload", "log"], GOOD | {"site": "we-nera.com"}),
    "the seq is one more": (["position", "proof"], GOOD | {"seq": SEQ + 1}),
    "the time is a millisecond later": (
        ["position"],
        GOOD | {"recordedAt": GOOD["recordedAt"].replace(".000Z", ".001Z")},
    ),
    "the time has no decimals": (["position"], GOOD | {"recordedAt": GOOD["recordedAt"].replace(".000Z", "Z")}),
    "the leaf hash is another": (["position"], flipped("leafHash")),
    "the leaf hash is empty": (["position"], GOOD | {"leafHash": ""}),
    "the position is of another seq": (["position"], GOOD | {"position": f"{LOG.site}:{SEQ + 1}"}),
    "the position has another form": (["position"], GOOD | {"position": f"{LOG.site}:0{SEQ}"}),
    "the salt is another": (["commitment"], flipped("salt")),
    "the salt is short": (["commitment"], GOOD | {"salt": b64(b64decode(GOOD["salt"])[:31])}),
    "the payload says denied": (
        ["commitment"],
        GOOD | {"payload": b64(b64decode(GOOD["payload"]).replace(b'"granted"', b'"denied"'))},
    ),
    "salt and payload are of another entry": (
        ["commitment", "payload"],
        GOOD | {name: receipt_of(LOG, SEQ + 1)[name] for name in ("salt", "payload")},
    ),
    "a byte of the payload went over to the salt": (
        ["commitment", "payload"],
        GOOD
        | {
            "salt": b64(b64decode(GOOD["salt"]) + b64decode(GOOD["payload"])[:1]),
            "payload": b64(b64decode(GOOD["payload"])[1:]),
        },
    ),
    "the entry's version is 2": (["entry"], GOOD | {"entry": b64(b"\x02" + b64decode(GOOD["entry"])[1:])}),
    "the entry has a byte more": (["entry"], GOOD | {"entry": b64(b64decode(GOOD["entry"]) + b"\x00")}),
    "the entry is cut": (["entry"], GOOD | {"entry": b64(b64decode(GOOD["entry"])[:-1])}),
    "the entry is empty": (["entry"], GOOD | {"entry": ""}),
    "the entry's signature is another": (["position", "inclusion"], flipped("entry", 170)),
    "the entry's prev is another": (["position", "inclusion"], flipped("entry", 20)),
    "the entry is a policy's": (["entry"], of_other_entry(entry.Kind.POLICY, bytes(32) + b"1.0")),
    "the entry is an erasure's": (["entry"], of_other_entry(entry.Kind.ERASURE, (1).to_bytes(8, "big"))),
    "the entry is a key's": (["entry"], of_other_entry(entry.Kind.KEY, keys.retire_ingest(LOG.ingest.public))),
    "the event's entry says something in public": (["entry"], forged(public=b"hello")),
    "the entry's time is beyond the calendar": (["position", "inclusion", "time"], GOOD | {"entry": b64(FAR_AHEAD)}),
    "the time is beyond the calendar": (["position"], GOOD | {"recordedAt": "+010000-01-01T00:00:00.000Z"}),
    "the payload is no event": (["payload"], with_payload(lambda _: b'{"a":"b"}')),
    "the payload has white space": (["payload"], with_payload(lambda payload: payload.replace(b":", b": ", 1))),
    "the payload has a doubled member": (
        ["payload"],
        with_payload(lambda payload: payload.replace(b'{"action"', b'{"action":"gpc","action"')),
    ),
    "the payload is of another site": (
        ["payload"],
        with_payload(lambda payload: payload.replace(b"weco.nexaxt.com", b"weco.nexaxt.net")),
    ),
    "the payload is empty": (["payload"], with_payload(lambda _: b"")),
    "the proof is of the entry before": (["proof"], GOOD | {"proof": proof_of(LOG, SEQ - 1, HEAD)}),
    "the proof names another index": (["proof"], with_proof(lambda text: text.replace("index 5", "index 4"))),
    "the proof is not one": (["proof"], GOOD | {"proof": "none"}),
    "the proof has an extra line": (["proof"], with_proof(lambda text: text.replace("@v1\n", "@v1\nextra AAAA\n"))),
    "the proof has lines ended as on Windows": (["proof"], with_proof(lambda text: text.replace("\n", "\r\n"))),
    "the proof has a space behind it": (["proof"], with_proof(lambda text: text + " ")),
    "a hash of the proof is missing": (["inclusion"], with_proof(lambda text: text.replace(f"{FIRST_HASH}\n", ""))),
    "a hash of the proof is there twice": (
        ["inclusion"],
        with_proof(lambda text: text.replace(FIRST_HASH, f"{FIRST_HASH}\n{FIRST_HASH}")),
    ),
    "a hash of the proof is another": (
        ["inclusion"],
        with_proof(lambda text: text.replace(FIRST_HASH, b64(bytes(32)))),
    ),
    "a hash of the proof is short": (["proof"], with_proof(lambda text: text.replace(FIRST_HASH, b64(bytes(31))))),
    "the checkpoint's size is another": (
        ["checkpoint", "inclusion", "witnesses"],
        with_proof(lambda text: text.replace(f"\n{len(LOG.leaves)}\n", "\n6\n")),
    ),
    "the checkpoint's root is another": (
        ["checkpoint", "inclusion", "witnesses"],
        with_proof(lambda text: text.replace(b64(LOG.root_hash(len(LOG.leaves))), b64(bytes(32)))),
    ),
    "the checkpoint is of another root that the log signed": (
        ["inclusion"],
        GOOD | {"proof": proof_of(LOG, SEQ, LOG.checkpoint(root=bytes(32), cosigned=[(W1.name, COSIGNED_AT)]))},
    ),
    "the checkpoint has no line of the log": (
        ["checkpoint"],
        with_proof(lambda text: text.replace(f"{LOG_LINE}\n", "")),
    ),
    "the log's line is a thief's": (
        ["checkpoint"],
        GOOD | {"proof": proof_of(LOG, SEQ, LOG.checkpoint(signers=[key("thief")], cosigned=[(W1.name, COSIGNED_AT)]))},
    ),
    "one line of the log is good and one bad": (
        ["checkpoint"],
        with_proof(lambda text: text.replace(LOG_LINE, f"{LOG_LINE}\n{bad(LOG_LINE)}")),
    ),
    "the witness's line is bad": (
        ["witnesses"],
        with_proof(lambda text: text.replace(WITNESS_LINE, bad(WITNESS_LINE))),
    ),
    "the witness did not cosign": (["witnesses"], with_proof(lambda text: text.replace(f"{WITNESS_LINE}\n", ""))),
    "the witness cosigned long before the entry's time": (
        ["time"],
        receipt_of(LOG, SEQ, cosigned=[(W1.name, COSIGNED_AT - 120)]),
    ),
    "the whole receipt is another site's": (["log"], cosigned(OTHER_LOG, SEQ)),
    "the whole receipt is of another log of the site": (["checkpoint"], cosigned(LATER, SEQ)),
}


def text(change: Callable[[str], str]) -> bytes:
    """The good receipt's file with other JSON."""
    changed = change(encode(GOOD).decode())
    assert changed != encode(GOOD).decode()
    return changed.encode(errors="surrogatepass")


def spare_bits(base64: str) -> str:
    """The same bytes to a careless reader: the two bits that the last character has to spare are set."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    assert base64.endswith("=")
    assert not base64.endswith("==")
    return base64[:-2] + alphabet[alphabet.index(base64[-2]) | 1] + "="


def without(name: str) -> bytes:
    return encode({member: value for member, value in GOOD.items() if member != name})


NO_RECEIPT: dict[str, bytes] = {
    "nothing": b"",
    "not JSON": b"receipt",
    "not UTF-8": encode(GOOD).replace(b"weco", b"w\xe9co"),
    "UTF-16": encode(GOOD).decode().encode("utf-16"),
    "a byte order mark": b"\xef\xbb\xbf" + encode(GOOD),
    "an array": b"[" + encode(GOOD) + b"]",
    "two of them": encode(GOOD) * 2,
    "cut": encode(GOOD)[:-1],
    "a doubled member": text(lambda t: t.replace('{"id"', '{"id": "x", "id"')),
    "the same member twice": text(lambda t: t.replace('"seq": 5', '"seq": 5, "seq": 5')),
    "a doubled member by an escape": text(lambda t: t.replace('"seq": 5', '"seq": 5, "s\\u0065q": 6')),
    "a doubled member within an unknown one": text(lambda t: t.replace('{"id"', '{"x": {"a": 1, "a": 2}, "id"')),
    "a comment": text(lambda t: t + "// sound"),
    "a trailing comma": text(lambda t: t[:-1] + ",}"),
    "NaN in an unknown member": text(lambda t: t.replace('{"id"', '{"x": NaN, "id"')),
    "nested too deeply": text(lambda t: t.replace('{"id"', '{"x": ' + "[" * 8 + "]" * 8 + ', "id"')),
    "nested far too deeply": text(lambda t: t.replace('{"id"', '{"x": ' + "[" * 100_000 + "]" * 100_000 + ', "id"')),
    "too long": encode(GOOD) + b" " * 512 * 1024,
    "a seq as text": text(lambda t: t.replace('"seq": 5', '"seq": "5"')),
    "a seq with a fraction": text(lambda t: t.replace('"seq": 5', '"seq": 5.0')),
    "a seq with an exponent": text(lambda t: t.replace('"seq": 5', '"seq": 5e0')),
    "a seq that is true": text(lambda t: t.replace('"seq": 5', '"seq": true')),
    "no id": without("id"),
    "no seq": without("seq"),
    "no position": without("position"),
    "a null proof": text(lambda t: t.replace('"proof": "', '"proof": null, "was": "')),
    "an empty proof": encode(GOOD | {"proof": ""}),
    "a site that is no text": encode(GOOD | {"site": 7}),
    "a lone surrogate": text(lambda t: t.replace('"salt": "', '"salt": "\\ud800')),
    "base64 without padding": encode(GOOD | {"salt": GOOD["salt"].rstrip("=")}),
    "base64 with a line end": encode(GOOD | {"entry": GOOD["entry"] + "\n"}),
    "base64 with a space in it": encode(GOOD | {"entry": GOOD["entry"][:8] + " " + GOOD["entry"][8:]}),
    "base64 for addresses": encode(GOOD | {"entry": GOOD["entry"].replace("+", "-").replace("/", "_")}),
    "base64 with bits left over": encode(GOOD | {"salt": spare_bits(GOOD["salt"])}),
}
"""Files that are refused by the check `receipt`."""
