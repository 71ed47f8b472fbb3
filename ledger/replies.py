"""Stored rows and decisions as the messages that callers get. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from ledger.core.decide import Outcome
from ledger.core.encoding import encode_base64, encode_time
from ledger.core.entry import commit_of, ms_of
from ledger.core.errors import Erased, IdConflict, InputRefused
from ledger.core.event import Event, decode_payload
from ledger.core.merkle import leaf_hash
from ledger.messages import CheckAnswer, PurposeDecision, Receipt
from ledger.site import Site
from ledger.store.reads import ReceiptRow

_ERASED = "This event was erased on request. Do not send it again; mint a new visitor id for a new visit."


def forgotten() -> InputRefused:
    """Whoever it is about was erased, or is about to be."""
    return InputRefused(
        "visitor-erased",
        "This visitor asked to be forgotten: nothing is recorded or told under this id. Mint a new visitor id for a "
        "new visit, and do not send this again.",
    )


def receipt_of(site: str, event_id: str, seq: int, entry: bytes, salt: bytes, payload: bytes) -> Receipt:
    """The receipt of an entry with its opening."""
    return Receipt(
        id=event_id,
        site=site,
        seq=seq,
        recorded_at=encode_time(ms_of(entry)),
        leaf_hash=encode_base64(leaf_hash(entry)),
        entry=encode_base64(entry),
        salt=encode_base64(salt),
        payload=encode_base64(payload),
        position=f"{site}:{seq}",
    )


def stored_receipt(site: Site, row: ReceiptRow) -> Receipt:
    """The receipt of a stored event; `Erased` if it holds no opening any more."""
    if row.sealed is None:
        raise Erased(_ERASED)
    salt, payload = site.vault.open_opening(commit_of(row.entry), row.sealed)
    return receipt_of(site.site, decode_payload(payload, Event).id, row.seq, row.entry, salt, payload)


def replay(site: Site, row: ReceiptRow, content: bytes) -> Receipt:
    """The receipt that an event of this content got before; `IdConflict` if the stored one has other content."""
    receipt = stored_receipt(site, row)
    if row.content != content:
        raise IdConflict("This event id was used for other content; send the changed event under a new id.")
    return receipt


def purpose_decision(decided: Outcome, explanation: Sequence[str] = ()) -> PurposeDecision:
    """One purpose of a visitor's consent."""
    return PurposeDecision(
        decision=decided.decision,
        status=decided.status,
        reason=decided.reason,
        regime=decided.regime,
        ask=decided.ask,
        notify=decided.notify,
        decided_at=_time(decided.decided_ms),
        valid_until=_time(decided.valid_until_ms),
        policy_version=decided.policy_version,
        seq=decided.seq,
        conflict=decided.conflict,
        conditional=decided.conditional,
        explanation=list(explanation),
    )


def check_answer(decided: Outcome) -> CheckAnswer:
    """One purpose of one visitor in a bulk check."""
    return CheckAnswer(decision=decided.decision, reason=decided.reason, valid_until=_time(decided.valid_until_ms))


def _time(ms: int | None) -> str | None:
    return None if ms is None else encode_time(ms)
