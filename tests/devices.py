"""Stored events for tests of the core: with the device by which acts for an account are told apart."""

from __future__ import annotations

from hashlib import sha256

from ledger.core.event import Event
from ledger.core.fold import DEVICE_BYTES, Recorded


def device_of(visitor: str) -> bytes:
    """Stands for the keyed hash of ledger/secrets: another browser has another one."""
    return sha256(visitor.encode()).digest()[:DEVICE_BYTES]


def stored(seq: int, recorded_ms: int, event: Event) -> Recorded:
    return Recorded(seq, recorded_ms, event, device_of(event.visitor))
