"""A browser proves to be a visitor: knowing the id is not enough, and a proof serves for one thing alone."""

from __future__ import annotations

import base64
from hashlib import sha256

import pytest

from ledger.core.challenge import (
    PROVABLE_CHARS,
    Challenge,
    check_proof,
    check_token,
    make_nonce,
    make_token,
    message,
    visitor_of,
)
from ledger.core.ed25519 import SigningKey
from ledger.core.errors import InputRefused
from ledger.core.event import VisitorId, matches

KEY, OTHER_KEY = bytes(range(32)), bytes(32)
SITE, OTHER_SITE = "ledger.test/a.example", "ledger.test/b.example"
ID, OTHER_ID = "01980000-0000-4000-8000-000000000001", "01980000-0000-4000-8000-000000000002"
NOW, TERM = 1_790_000_000_000, 600_000
BROWSER, STRANGER = SigningKey(b"\1" * 32), SigningKey(b"\2" * 32)
VISITOR = visitor_of(BROWSER.public)
NONCE = make_nonce(KEY, Challenge(SITE, ID, VISITOR, "access"), NOW, b"r" * 16)


def prove(
    key: bytes = KEY,
    origin: str = SITE,
    request_id: str = ID,
    nonce: str = NONCE,
    browser: SigningKey = BROWSER,
    signs: bytes | None = None,
    now_ms: int = NOW + 1000,
) -> tuple[str, tuple[int, str]]:
    signature = browser.sign(message(origin, request_id, nonce) if signs is None else signs)
    return check_proof(key, origin, request_id, nonce, browser.public, signature, now_ms, TERM)


def test_a_visitor_id_is_the_unpadded_hash_of_its_key() -> None:
    assert base64.urlsafe_b64encode(sha256(BROWSER.public).digest()).decode().rstrip("=") == VISITOR
    assert len(VISITOR) == PROVABLE_CHARS
    assert matches(VisitorId, VISITOR)


def test_the_browser_that_holds_the_key_is_the_visitor() -> None:
    assert prove() == (VISITOR, (NOW, "access"))
    assert prove(now_ms=NOW + TERM) == (VISITOR, (NOW, "access"))


@pytest.mark.parametrize(
    "changes",
    [
        {"browser": STRANGER},
        {"request_id": OTHER_ID},
        {"origin": OTHER_SITE},
        {"key": OTHER_KEY},
        {"now_ms": NOW + TERM + 1},
        {"now_ms": NOW - 1},
        {"nonce": make_nonce(KEY, Challenge(SITE, ID, visitor_of(STRANGER.public), "access"), NOW, b"r" * 16)},
        {"nonce": NONCE[:-1] + ("A" if NONCE[-1] != "A" else "B")},
        {"nonce": NONCE + "=="},
        {"nonce": ""},
        {"nonce": "é" * 80},
        {"signs": message(SITE, OTHER_ID, NONCE)},
        {"signs": message(OTHER_SITE, ID, NONCE)},
        {"signs": NONCE.encode()},
    ],
    ids=[
        *("another key", "another request", "another site", "another ledger", "too late", "too early"),
        *("a challenge of another visitor", "an altered nonce", "padding", "no nonce", "no ASCII"),
        *("a signature for another request", "a signature for another site", "a signature over the nonce alone"),
    ],
)
def test_any_other_proof_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(InputRefused) as refused:
        prove(**changes)  # type: ignore[arg-type]
    assert refused.value.kind == "proof-refused"


def test_a_nonce_does_not_serve_for_another_kind() -> None:
    """The kind lies in the nonce, in clear: whoever puts another there has no challenge of ours."""
    data = base64.urlsafe_b64decode(NONCE + "==")
    forged = base64.urlsafe_b64encode(data.replace(b"access", b"erasure")).decode().rstrip("=")
    with pytest.raises(InputRefused):
        prove(nonce=forged)


def test_a_key_that_is_no_point_of_prime_order_proves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Under such a key one signature may fit many messages; that a library refuses some of them is not relied upon."""
    monkeypatch.setattr("ledger.core.ed25519.verify", lambda *_: None)
    assert prove() == (VISITOR, (NOW, "access"))
    weak = bytes([1]) + bytes(31)
    nonce = make_nonce(KEY, Challenge(SITE, ID, visitor_of(weak), "access"), NOW, b"r" * 16)
    with pytest.raises(InputRefused):
        check_proof(KEY, SITE, ID, nonce, weak, weak + bytes(32), NOW, TERM)


def test_a_token_is_of_one_request_for_a_while() -> None:
    token = make_token(KEY, SITE, ID, NOW)
    assert check_token(KEY, SITE, ID, token, NOW)
    assert not check_token(KEY, SITE, ID, token, NOW + 1)
    assert not check_token(KEY, SITE, OTHER_ID, token, NOW)
    assert not check_token(KEY, OTHER_SITE, ID, token, NOW)
    assert not check_token(OTHER_KEY, SITE, ID, token, NOW)
    for forged in ("", NONCE, token[:-4], make_token(OTHER_KEY, SITE, ID, NOW + 10**6)):
        assert not check_token(KEY, SITE, ID, forged, NOW)
