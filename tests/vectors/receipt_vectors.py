"""Makes proto/vectors/receipt.json: `python -m tests.vectors.receipt_vectors` writes it anew."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.logbuilder import key
from tests.receipt_cases import (
    ACCOUNT_EVENT,
    COSIGNED_AT,
    GOOD,
    LOG,
    NO_RECEIPT,
    OWN_ACCOUNT_EVENT,
    OWN_EVENT,
    SEQ,
    SIGNED,
    TAMPERED,
    UNKNOWN_LINE,
    W1,
    W2,
    of_payload,
)
from tests.receipts import b64, encode, receipt_of

PATH = Path(__file__).resolve().parents[2] / "proto" / "vectors" / "receipt.json"
MAX_CASE_BYTES = 16_384
"""Of a file in the vectors; what is refused for its mere length would be most of them."""


def case(what: str, file: bytes, verdict: str, failed: list[str], **brought: Any) -> dict[str, Any]:
    try:
        content = {"file": file.decode("utf-8")}
    except UnicodeDecodeError:
        content = {"file_base64": b64(file)}
    return {"what": what, **content, **brought, "verdict": verdict, "failed": failed}


def vectors() -> dict[str, Any]:
    """The file's content; signatures are deterministic, so it is the same every time."""
    bare = {name: value for name, value in GOOD.items() if name != "proof"}
    both = receipt_of(LOG, SEQ, cosigned=[(W1.name, COSIGNED_AT + 5), (W2.name, COSIGNED_AT)])
    rotating = receipt_of(LOG, SEQ, LOG.checkpoint(signers=[LOG.log, key("log 2")]))
    strange = GOOD | {"proof": GOOD["proof"] + f"{UNKNOWN_LINE}\n" * 3}
    alone = receipt_of(LOG, SEQ, LOG.checkpoint(SEQ + 1))
    later = {"note": "of a later version", "nested": {"a": [1.5, None, False]}} | GOOD
    witnessed, signed = {"witnesses": ["w1"]}, {"signature": True}
    cases = [
        case("sound, under a cosigned checkpoint", encode(GOOD), "verified", [], **witnessed, **signed),
        case("sound, and no witness is asked", encode(GOOD), "verified", []),
        case("sound, cosigned by two", encode(both), "verified", [], witnesses=["w1", "w2"]),
        case("sound, signed by a second log key too, which is not known", encode(rotating), "verified", []),
        case("sound, and the log ended there", encode(alone), "verified", []),
        case("sound, indented, with unknown members", json.dumps(later, indent=2).encode(), "verified", []),
        case("sound, with signatures of nobody known", encode(strange), "verified", []),
        case("sound, made for an account by a backend", encode(of_payload(ACCOUNT_EVENT)), "verified", []),
        case("sound, of the ledger's own", encode(of_payload(OWN_EVENT)), "verified", []),
        case("sound, of the ledger's own, about an account", encode(of_payload(OWN_ACCOUNT_EVENT)), "verified", []),
        case("without a proof", encode(bare), "unproven", []),
        case("without a proof, signed by the ingest key", encode(bare), "accepted", [], **signed),
        case("a second witness is demanded", encode(GOOD), "failed", ["witnesses"], witnesses=["w1", "w2"]),
        *(
            case(what, encode(receipt), "failed" if failed else "verified", failed, **witnessed, **signed)
            for what, (failed, receipt) in SIGNED.items()
        ),
        *(case(what, encode(receipt), "failed", failed, **witnessed) for what, (failed, receipt) in TAMPERED.items()),
        *(
            case(what, file, "failed", ["receipt"])
            for what, file in NO_RECEIPT.items()
            if len(file) <= MAX_CASE_BYTES and file
        ),
    ]
    return {
        "log_vkey": str(LOG.log_vkey),
        "log_id": LOG.log_id.hex(),
        "ingest_public": b64(LOG.ingest.public),
        "witness_vkeys": {"w1": str(W1), "w2": str(W2)},
        "cases": cases,
    }


def text() -> str:
    return json.dumps(vectors(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    PATH.write_text(text(), encoding="utf-8")
