"""What a failed append means: refused for good, not begun, or unknown until it is settled."""

from __future__ import annotations

import asyncio

import asyncpg

from ledger.core.errors import Unavailable

DIFFERENT_LOG = "LG001"
CLOCKS_DIFFER = "LG002"
ENTRY_AHEAD = "LG003"
SIGNER_INACTIVE = "LG004"
NO_LOG = "LG005"
AGAINST_RULES = "LG006"
LOG_EXISTS = "LG007"
DATA_KEY_CLOSED = "LG008"
MASTER_REPLACED = "LG009"
READ_ONLY = "25006"
"""A session with a standby, or one begun while writing was switched off: another one may be better."""

_DATA_CLASSES = ("22", "23", "54")
_RETRY_STATES = frozenset({READ_ONLY, "40001", "40P01", "55P03", "57014"})
_RETRY_CLASSES = ("08", "53", "57", "58", "XX")
_UNPREPARED_STATES = frozenset({"42501", "42883", "42P01", "55000", "55006"})
_UNPREPARED_CLASSES = ("28", "3D", "3F")

CONNECTION_ERRORS = (
    OSError,
    EOFError,
    asyncio.TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.exceptions.InternalClientError,
)
"""The answer is missing: what was sent may or may not be committed."""


def sqlstate(error: BaseException) -> str:
    """The SQLSTATE of a Postgres error, empty for any other."""
    return str(getattr(error, "sqlstate", None) or "")


def is_data_error(error: BaseException) -> bool:
    """One draft of the batch cannot be stored; the others can (classes 22, 23, 54)."""
    return sqlstate(error)[:2] in _DATA_CLASSES


def is_transient(error: BaseException) -> bool:
    """Worth the same drafts again: the connection broke, or the server rolled back for a reason that passes."""
    if isinstance(error, (*CONNECTION_ERRORS, asyncpg.PostgresConnectionError)):
        return True
    state = sqlstate(error)
    return state in _RETRY_STATES or state[:2] in _RETRY_CLASSES


def is_passing(error: BaseException) -> bool:
    """Of what a worker may meet in a round: it was told where it arose, or passes, and the next round finds out."""
    return is_transient(error) or isinstance(error, Unavailable)


def is_unprepared(error: BaseException) -> bool:
    """The server is there, but the ledger in it is not, or not for this login: being restored, or never migrated."""
    state = sqlstate(error)
    return state in _UNPREPARED_STATES or state[:2] in _UNPREPARED_CLASSES
