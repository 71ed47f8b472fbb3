"""Secrets on this side of the database: signing keys in files, and the keyed hashes by which rows are looked up.

Nothing here is written to Postgres, logs or error texts.
"""

from __future__ import annotations

import os
import secrets
from hashlib import blake2b, sha256
from pathlib import Path

from ledger.core.ed25519 import SEED_BYTES, SigningKey
from ledger.core.errors import ConfigInvalid

HASH_BYTES = 16
API_KEY_BYTES = 32
ROLES = ("root", "ingest", "log")


class SiteHasher:
    """Keyed BLAKE2b of what must not stand in an index in clear; another site or secret gives other hashes."""

    __slots__ = ("_key",)

    def __init__(self, master_secret: bytes, log_id: bytes) -> None:
        self._key = blake2b(log_id, key=master_secret, digest_size=32, person=b"ledger site").digest()

    def event_id(self, event_id: str) -> bytes:
        return blake2b(event_id.encode(), key=self._key, digest_size=HASH_BYTES, person=b"ledger event").digest()

    def visitor(self, visitor: str) -> bytes:
        return blake2b(visitor.encode(), key=self._key, digest_size=HASH_BYTES, person=b"ledger visitor").digest()

    def content(self, content: bytes) -> bytes:
        return blake2b(content, key=self._key, digest_size=HASH_BYTES, person=b"ledger content").digest()

    def derived_id(self, event_id: str) -> str:
        """The id (UUID v8) of the denials that are kept of a refused event: the same again on every retry."""
        data = bytearray(
            blake2b(event_id.encode(), key=self._key, digest_size=HASH_BYTES, person=b"ledger denials").digest()
        )
        data[6] = data[6] & 0x0F | 0x80
        data[8] = data[8] & 0x3F | 0x80
        text = data.hex()
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def new_event_id(unix_ms: int) -> str:
    """A UUID v7 (RFC 9562 section 5.7): time first, so that ids minted together lie together in an index."""
    data = bytearray(unix_ms.to_bytes(6, "big") + os.urandom(10))
    data[6] = data[6] & 0x0F | 0x70
    data[8] = data[8] & 0x3F | 0x80
    text = data.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def new_salt() -> bytes:
    """32 fresh bytes of the operating system, never derived (SPEC.md, "Commitments")."""
    return os.urandom(32)


def new_api_key(key_class: str) -> str:
    """`pk_…` or `sk_…` with 256 random bits."""
    prefix = {"publishable": "pk_", "secret": "sk_"}[key_class]
    return prefix + secrets.token_urlsafe(API_KEY_BYTES)


def api_key_hash(key: str) -> bytes:
    return sha256(key.encode()).digest()


def create_key(directory: Path, site: str, role: str) -> SigningKey:
    """Make a key file, mode 0600, whole or not at all; or load the one that is there."""
    path = _path(directory, site, role)
    for folder in (directory, path.parent):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    unfinished = path.with_suffix(f".{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(os.urandom(SEED_BYTES).hex() + "\n")
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(unfinished, path)  # unlike a rename, it never replaces a key
    except FileExistsError:
        pass
    finally:
        unfinished.unlink()
    for folder in (path.parent, directory):  # a log outlives a power cut, and so must the keys that it names
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    return load_key(directory, site, role)


def load_key(directory: Path, site: str, role: str) -> SigningKey:
    """The key of a role; `ConfigInvalid` tells where it was looked for."""
    path = _path(directory, site, role)
    try:
        text = path.read_text(encoding="ascii")
        seed = bytes.fromhex(text.strip())
    except FileNotFoundError as error:
        raise ConfigInvalid(f"no {role} key of {site}: expected the file {path}") from error
    except (OSError, ValueError) as error:
        raise ConfigInvalid(f"the {role} key of {site} cannot be read: {path} should hold 64 hex digits") from error
    if len(seed) != SEED_BYTES:
        raise ConfigInvalid(f"the {role} key of {site} is damaged: {path} should hold 64 hex digits")
    return SigningKey(seed)


def _path(directory: Path, site: str, role: str) -> Path:
    if role not in ROLES:
        raise ValueError(f"no such role: {role}")
    return directory / site / f"{role}.key"
