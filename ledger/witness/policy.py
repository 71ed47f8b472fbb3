"""The trust policy of an installation, read from its file. What it means is core/quorum."""

from __future__ import annotations

from pathlib import Path

from ledger.core.errors import ConfigInvalid, Malformed
from ledger.core.quorum import MAX_POLICY_BYTES, TrustPolicy, parse_policy


def read_policy(path: Path | None) -> TrustPolicy:
    """The policy in a file; without one, no witness and no quorum. `ConfigInvalid` says what to mend."""
    if path is None:
        return TrustPolicy()
    try:
        with path.open("rb") as file:
            data = file.read(MAX_POLICY_BYTES + 1)
        return parse_policy(_text(data))
    except OSError as error:
        raise ConfigInvalid(f"the trust policy {path} cannot be read: {error.strerror}") from error
    except Malformed as error:
        raise ConfigInvalid(f"{path}: {error}") from error


def _text(data: bytes) -> str:
    """Octets as text that can be shown and stored: UTF-8, and what is none octet by octet; names stay apart."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1")
