"""Receipts that were tampered with, each with the checks that have to fail and no others.

`GOOD` is sound; `TAMPERED` receipts are verified with the log's key and the witness `W1`, `NO_RECEIPT` are files.
"""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Callable
from hashlib import sha512
from typing import Any

from ledger.core import entry, keys
from ledger.core.tlog_proof import encode_proof
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


def signature_of(r: bytes, s: int) -> str:
    """The log's line with another signature: R as it is, S as a number."""
    return f"— {LOG.origin} {b64(LOG.log_vkey.key_id + r + s.to_bytes(32, 'little'))}"


def neutral_line() -> str:
    """A line that fulfils the equation of Ed25519 with the neutral point for R; only who knows the key can make it."""
    digest = bytearray(sha512(LOG.log.seed).digest()[:32])
    digest[0] &= 248
    digest[31] = digest[31] & 63 | 64
    r = (1).to_bytes(32, "little")
    k = int.from_bytes(sha512(r + LOG.log.public + HEAD.body).digest(), "little")
    return signature_of(r, k * int.from_bytes(digest, "little") % ORDER)


ORDER = 2**252 + 27742317777372353535851937790883648493
PAST_TIME = b64decode(GOOD["entry"])[:9] + (2**53).to_bytes(8, "big") + b64decode(GOOD["entry"])[17:]
FAR_AHEAD = b64decode(GOOD["entry"])[:9] + (2**53 - 1).to_bytes(8, "big") + b64decode(GOOD["entry"])[17:]
FIRST_HASH = GOOD["proof"].split("\n")[2]
LOG_LINE = next(line for line in GOOD["proof"].split("\n") if line.startswith("— ledger."))
WITNESS_LINE = next(line for line in GOOD["proof"].split("\n") if line.startswith("— witness."))

LOG_SIGNATURE = b64decode(LOG_LINE.split(" ")[2])[4:]
R, S = LOG_SIGNATURE[:32], int.from_bytes(LOG_SIGNATURE[32:], "little")
ROOT = b64(LOG.root_hash(len(LOG.leaves)))
UNKNOWN_LINE = f"— other.example/w9 {b64(bytes(76))}"

OWN_EVENT = (
    b'{"authentication":"ledger","id":"01980000-0000-7000-8000-000000000077","lapsed":{"analytics":3},'
    b'"occurredAt":"2026-11-21T03:00:00.000Z","site":"weco.nexaxt.com","type":"consent.expired","visitor":"'
    + b"v" * 22
    + b'"}'
)
OWN_ACCOUNT_EVENT = OWN_EVENT.replace(b'{"auth', b'{"account":"' + b"0f" * 16 + b'","auth')
ACCOUNT_EVENT = (
    b'{"account":"' + b"0f" * 16 + b'","action":"import","authentication":"secret","conditional":true,"decisions":'
    b'{"analytics":"granted"},"gppString":"DBABMA~CPX","id":"01980000-0000-7000-8000-000000000078",'
    b'"original":"v1;yes","policyVersion":"1.0","site":"weco.nexaxt.com","tcString":"CPX","type":"consent.given",'
    b'"visitor":"' + b"v" * 22 + b'"}'
)

DISMISSED_EVENT = (
    b'{"action":"dismiss","id":"01980000-0000-7000-8000-000000000079","policyVersion":"1.0","site":"weco.nexaxt.com",'
    b'"type":"consent.dismissed","visitor":"' + b"v" * 22 + b'"}'
)


def of_payload(payload: bytes) -> Receipt:
    """The receipt of an event with this payload."""
    receipt = with_payload(lambda _: payload)
    return receipt | {"id": json.loads(payload)["id"]}


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
    "the entry's time is not below 2^53": (["entry"], GOOD | {"entry": b64(PAST_TIME)}),
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
    "the payload's members are not sorted": (
        ["payload"],
        with_payload(
            lambda payload: (
                b'{"visitor"'
                + payload.partition(b',"visitor"')[2][:-1]
                + b","
                + payload.partition(b',"visitor"')[0][1:]
                + b"}"
            )
        ),
    ),
    "the payload has an escape too many": (
        ["payload"],
        with_payload(lambda payload: payload.replace(b"1.0", b"1\\u002e0")),
    ),
    "the payload has a half surrogate pair": (
        ["payload"],
        with_payload(
            lambda payload: payload.replace(b'"policyVersion"', b'"citedPolicyVersion"').replace(b"1.0", b"\\ud800")
        ),
    ),
    "the payload has an unknown member": (["payload"], with_payload(lambda payload: payload[:-1] + b',"zone":"x"}')),
    "the payload says false": (
        ["payload"],
        with_payload(lambda payload: payload.replace(b'"id"', b'"gpc":false,"id"')),
    ),
    "the payload says null": (["payload"], with_payload(lambda payload: payload.replace(b'"1.0"', b"null"))),
    "the payload decides nothing": (
        ["payload"],
        with_payload(lambda payload: payload.replace(b'"analytics":"granted","marketing":"denied"', b"")),
    ),
    "the payload decides neither yes nor no": (
        ["payload"],
        with_payload(lambda payload: payload.replace(b"denied", b"unsure")),
    ),
    "the payload's day is none of the calendar": (
        ["payload"],
        with_payload(lambda payload: payload.replace(b"2026-11-21T", b"2026-11-31T")),
    ),
    "the payload lacks the visitor": (
        ["payload"],
        with_payload(lambda payload: payload.partition(b',"visitor"')[0] + b"}"),
    ),
    "the payload says which account was meant, and that a notice was shown": (
        ["payload"],
        of_payload(
            OWN_EVENT.replace(b'{"authentication":"ledger"', b'{"account":"' + b"0f" * 16 + b'"')
            .replace(b'"lapsed":{"analytics":3},', b"")
            .replace(b"consent.expired", b"notice.seen")
        ),
    ),
    "the payload is of the ledger's own, and says that a backend sent it": (
        ["payload"],
        of_payload(OWN_EVENT.replace(b'"ledger"', b'"secret"')),
    ),
    "the payload is a visitor's, and says that it is the ledger's own": (
        ["payload"],
        with_payload(lambda payload: payload.replace(b'"decisions"', b'"authentication":"ledger","decisions"')),
    ),
    "the payload ended a grant of entry 0": (["payload"], of_payload(OWN_EVENT.replace(b":3}", b":0}"))),
    "the payload links to nothing": (
        ["payload"],
        of_payload(OWN_EVENT.replace(b'"lapsed":{"analytics":3},', b"").replace(b"consent.expired", b"account.linked")),
    ),
    "the payload dismisses and decides": (
        ["payload"],
        with_payload(lambda payload: payload.replace(b"consent.given", b"consent.dismissed")),
    ),
    "the payload's type is none": (
        ["payload"],
        with_payload(lambda payload: payload.replace(b"consent.given", b"consent.taken")),
    ),
    "the payload is an array": (["payload"], with_payload(lambda payload: b"[" + payload + b"]")),
    "the payload is empty": (["payload"], with_payload(lambda _: b"")),
    "the proof is of the entry before": (["proof"], GOOD | {"proof": proof_of(LOG, SEQ - 1, HEAD)}),
    "the proof names another index": (["proof"], with_proof(lambda text: text.replace("index 5", "index 4"))),
    "the proof is not one": (["proof"], GOOD | {"proof": "none"}),
    "the proof has an extra line": (["proof"], with_proof(lambda text: text.replace("@v1\n", "@v1\nextra AAAA\n"))),
    "the proof has lines ended as on Windows": (["proof"], with_proof(lambda text: text.replace("\n", "\r\n"))),
    "the proof has a space behind it": (["proof"], with_proof(lambda text: text + " ")),
    "the proof's index has a zero in front": (["proof"], with_proof(lambda text: text.replace("index 5", "index 05"))),
    "the proof has no index": (["proof"], with_proof(lambda text: text.replace("index 5\n", ""))),
    "the proof's index is the size": (
        ["proof"],
        GOOD | {"proof": encode_proof(SEQ, [], LOG.checkpoint(SEQ).encode()).decode()},
    ),
    "the proof has 65 hashes": (
        ["proof"],
        with_proof(lambda text: text.replace(FIRST_HASH, "\n".join([FIRST_HASH] * 62))),
    ),
    "the proof has no empty line above its checkpoint": (
        ["proof"],
        with_proof(lambda text: text.replace(f"\n\n{LOG.origin}", f"\n{LOG.origin}")),
    ),
    "the checkpoint has an extension line": (["proof"], with_proof(lambda text: text.replace(ROOT, f"{ROOT}\nmore"))),
    "the checkpoint's size has a zero in front": (
        ["proof"],
        with_proof(lambda text: text.replace("\n13\n", "\n013\n")),
    ),
    "the checkpoint's root is short": (["proof"], with_proof(lambda text: text.replace(ROOT, b64(bytes(31))))),
    "the checkpoint's last line does not end": (["proof"], with_proof(lambda text: text[:-1])),
    "the checkpoint has 101 signature lines": (["proof"], with_proof(lambda text: text + f"{UNKNOWN_LINE}\n" * 99)),
    "a signature line begins with a hyphen": (["proof"], with_proof(lambda text: text.replace("— w", "- w"))),
    "a signature line has no signature": (
        ["proof"],
        with_proof(lambda text: f"{text}— other.example {b64(bytes(4))}\n"),
    ),
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
    "the log's line has an S beyond the order": (
        ["checkpoint"],
        with_proof(lambda text: text.replace(LOG_LINE, signature_of(R, S + ORDER))),
    ),
    "the log's line has the neutral point for R": (
        ["checkpoint"],
        with_proof(lambda text: text.replace(LOG_LINE, neutral_line())),
    ),
    "the log's line is short": (
        ["checkpoint"],
        with_proof(lambda text: text.replace(LOG_LINE, f"— {LOG.origin} {b64(LOG.log_vkey.key_id + R)}")),
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


def under_another_name() -> Receipt:
    """An event that the ingest key signed, in an entry that names another signer."""
    log = LogBuilder()
    made = entry.decode(log.entries[log.event()])
    log.entries.pop()
    log.leaves.pop()
    seq = log.append_bytes(entry.encode(made._replace(signer=entry.key_hash(key("thief").public))))
    return cosigned(log, seq)


def under_another_logs_checkpoint() -> Receipt:
    """The good receipt, but the checkpoint that covers its entry is one of another site's log."""
    log = LogBuilder(OTHER_LOG.origin)
    log.entries, log.leaves = LOG.entries, LOG.leaves
    return GOOD | {"proof": proof_of(log, SEQ, log.checkpoint())}


SIGNED: dict[str, tuple[list[str], Receipt]] = {
    "the ingest key signed": ([], forged()),
    "a thief's key signed": (["signature"], forged(signer=key("thief"))),
    "the ingest key signed, and the entry names another": (["signature"], under_another_name()),
    "the signature is for another log": (["signature"], forged(log=bytes(32))),
    "the signature is of zeros": (["signature"], forged(signature=bytes(64))),
}
"""Verified with the log id and the ingest key beside the log's key and the witness."""


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
