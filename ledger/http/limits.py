"""The bounds of the HTTP edge in one struct, so that a test can shrink one and see it hold."""

from __future__ import annotations

from dataclasses import dataclass

from ledger import config


@dataclass(frozen=True)
class Limits:
    """What one server process accepts."""

    event_body_max_bytes: int = config.EVENT_BODY_MAX_BYTES
    batch_body_max_bytes: int = config.BATCH_BODY_MAX_BYTES
    batch_max_lines: int = config.BATCH_MAX_LINES
    batch_window_lines: int = config.BATCH_WINDOW_LINES
    check_body_max_bytes: int = config.CHECK_BODY_MAX_BYTES
    check_max_answers: int = config.CHECK_MAX_ANSWERS
    policy_body_max_bytes: int = config.POLICY_BODY_MAX_BYTES
    document_body_max_bytes: int = config.PICTURE_MAX_BYTES
    request_address_max: int = config.REQUEST_ADDRESS_MAX
    request_address_seconds: float = config.REQUEST_ADDRESS_SECONDS
    body_read_timeout_seconds: float = config.BODY_READ_TIMEOUT_SECONDS
    batch_read_timeout_seconds: float = config.BATCH_READ_TIMEOUT_SECONDS
    checkpoint_wait_seconds: float = config.CHECKPOINT_WAIT_SECONDS
    write_timeout_seconds: float = config.WRITE_TIMEOUT_SECONDS
    keepalive_timeout_seconds: float = config.KEEPALIVE_TIMEOUT_SECONDS
    linger_seconds: float = config.LINGER_SECONDS
    shutdown_timeout_seconds: float = config.SHUTDOWN_TIMEOUT_SECONDS


DEFAULT_LIMITS = Limits()
