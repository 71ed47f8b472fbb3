"""Sealing what is stored: AES-256-GCM under data keys, which are wrapped under a master secret. Bytes in, bytes out.

Sealed bytes are u8 1 ‖ u32 data key ‖ nonce[12] ‖ ciphertext ‖ tag[16]. Bound to them, as associated data, are their
log, the column they stand in, and what they belong to there, so they open nowhere else. The nonce is a keyed hash of
all that and of the plaintext, and is computed again when they are opened: two messages share a nonce only if they are
one message, so neither a broken random generator, nor a fork, nor a machine that is put back to an earlier moment
brings about the reuse that GCM does not forgive. It knows no key by number and stores nothing.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Literal, NamedTuple

from nacl import bindings
from nacl.exceptions import CryptoError, UnavailableError

from ledger.core.errors import ConfigInvalid, Malformed, SealBroken

VERSION = 1
KEY_BYTES = 32
SECRET_BYTES = 32
SALT_BYTES = 32
NONCE_BYTES = bindings.crypto_aead_aes256gcm_NPUBBYTES
TAG_BYTES = bindings.crypto_aead_aes256gcm_ABYTES
HEADER_BYTES = 5
OVERHEAD_BYTES = HEADER_BYTES + NONCE_BYTES + TAG_BYTES
MAX_KEY_NO = 2**31 - 1
"""A key's number fits Postgres's integer."""

OPENING = "opening"
"""The column of openings; what an opening is bound to is its commitment."""
Role = Literal["opening", "lookup", "register", "hold"]
ROLES: tuple[Role, ...] = ("opening", "lookup", "register", "hold")

_COLUMN_LABEL = b"consent-ledger/v1 sealed column\n"
_KEY_LABEL = b"consent-ledger/v1 wrapped data key\n"


class Cipher:
    """One secret of 32 bytes, ready to seal and open."""

    __slots__ = ("_key", "_nonce_key")

    def __init__(self, secret: bytes) -> None:
        if len(secret) != KEY_BYTES:
            raise ValueError("a key has 32 bytes")
        self._key = blake2b(b"", key=secret, digest_size=32, person=b"ledger cipher").digest()
        self._nonce_key = blake2b(b"", key=secret, digest_size=32, person=b"ledger nonce").digest()

    def seal(self, associated: bytes, plaintext: bytes) -> bytes:
        """nonce ‖ ciphertext ‖ tag. The same message comes out the same."""
        nonce = self._nonce(associated, plaintext)
        try:
            return nonce + bytes(bindings.crypto_aead_aes256gcm_encrypt(plaintext, associated, nonce, self._key))
        except UnavailableError as error:
            raise no_aes() from error

    def open(self, associated: bytes, sealed: bytes) -> bytes:
        """The plaintext; `SealBroken` if these bytes were not sealed so by this key."""
        nonce = sealed[:NONCE_BYTES]
        if len(sealed) < NONCE_BYTES + TAG_BYTES:
            raise SealBroken("sealed bytes are longer: they were cut off")
        try:
            plaintext: bytes = bindings.crypto_aead_aes256gcm_decrypt(
                sealed[NONCE_BYTES:], associated, nonce, self._key
            )
        except UnavailableError as error:
            raise no_aes() from error
        except CryptoError:
            raise SealBroken("sealed bytes do not open: they were altered, or moved from elsewhere") from None
        if self._nonce(associated, plaintext) != nonce:
            raise SealBroken("sealed bytes have a nonce that is not their own")
        return plaintext

    def _nonce(self, associated: bytes, plaintext: bytes) -> bytes:
        """Injective over both, for the length of the associated data goes first."""
        data = len(associated).to_bytes(4, "big") + associated + plaintext
        return blake2b(data, key=self._nonce_key, digest_size=NONCE_BYTES, person=b"ledger nonce").digest()


class ColumnCipher:
    """A data key of one log: seals values of its columns. The number of the key stands in front of what it sealed."""

    __slots__ = ("_cipher", "_header", "_log_id")

    def __init__(self, log_id: bytes, key_no: int, data_key: bytes) -> None:
        self._log_id = log_id
        self._header = bytes([VERSION]) + key_no.to_bytes(4, "big")
        self._cipher = Cipher(data_key)

    def seal(self, column: str, binding: bytes, plaintext: bytes) -> bytes:
        """Sealed bytes of a value in `column` (ASCII, at most 255 characters) that belongs to `binding`."""
        return self._header + self._cipher.seal(self._associated(column, binding), plaintext)

    def open(self, column: str, binding: bytes, sealed: bytes) -> bytes:
        """The value; `SealBroken` unless this key sealed these bytes for this column and binding."""
        if sealed[:HEADER_BYTES] != self._header:
            raise SealBroken("sealed bytes name another key or version")
        return self._cipher.open(self._associated(column, binding), sealed[HEADER_BYTES:])

    def _associated(self, column: str, binding: bytes) -> bytes:
        name = column.encode("ascii")
        return b"".join((_COLUMN_LABEL, self._header, self._log_id, bytes([len(name)]), name, binding))


def key_no_of(sealed: bytes) -> int:
    """The number of the data key that sealed bytes name; `SealBroken` if they can be none."""
    if len(sealed) < OVERHEAD_BYTES or sealed[0] != VERSION:
        raise SealBroken("these are no sealed bytes of a version that is known here")
    return int.from_bytes(sealed[1:HEADER_BYTES], "big")


def split_opening(plaintext: bytes) -> tuple[bytes, bytes]:
    """Salt and payload of an opening that was opened."""
    if len(plaintext) < SALT_BYTES:
        raise SealBroken("an opening begins with a salt of 32 bytes")
    return plaintext[:SALT_BYTES], plaintext[SALT_BYTES:]


class KeyName(NamedTuple):
    """What a wrapped data key is bound to: its log, its number there, and its role."""

    log_id: bytes
    key_no: int
    role: Role


class Master(NamedTuple):
    """A master secret and its version, from 1 on."""

    version: int
    secret: bytes


def wrap(data_key: bytes, name: KeyName, master: Master) -> bytes:
    """A data key under a master secret: u8 1 ‖ nonce[12] ‖ AES-256-GCM(key[32]) ‖ tag[16], the same on each call."""
    return bytes([VERSION]) + _wrapping(master).seal(_key_associated(name, master.version), data_key)


def unwrap(wrapped: bytes, name: KeyName, master: Master) -> bytes:
    """The data key; `SealBroken` unless it was wrapped under this master secret as the key of this name."""
    if wrapped[:1] != bytes([VERSION]):
        raise SealBroken("a wrapped key of a version that is not known here")
    data_key = _wrapping(master).open(_key_associated(name, master.version), wrapped[1:])
    if len(data_key) != KEY_BYTES:
        raise SealBroken("a data key has 32 bytes")
    return data_key


def _wrapping(master: Master) -> Cipher:
    """Not under the master secret itself: key files and hashes have their own keys derived from it."""
    return Cipher(blake2b(b"", key=master.secret, digest_size=KEY_BYTES, person=b"ledger wrapping").digest())


def _key_associated(name: KeyName, version: int) -> bytes:
    if name.role not in ROLES or not 0 < name.key_no <= MAX_KEY_NO or not 0 < version <= MAX_KEY_NO:
        raise Malformed("no data key has such a name")
    role = name.role.encode("ascii")
    number, version_bytes = name.key_no.to_bytes(4, "big"), version.to_bytes(4, "big")
    return b"".join((_KEY_LABEL, name.log_id, number, version_bytes, role))


def hashing_key(lookup_key: bytes) -> bytes:
    """What keys the hashes by which rows are looked up, of a site's `lookup` key."""
    return blake2b(b"", key=lookup_key, digest_size=KEY_BYTES, person=b"ledger lookup").digest()


def no_aes() -> ConfigInvalid:
    """No other cipher instead: one format that every machine of an installation reads is worth more."""
    return ConfigInvalid(
        "this processor lacks the AES instructions (AES-NI, or the ARMv8 cryptography extension) that libsodium's "
        "AES-256-GCM needs: key files and stored events cannot be used on this machine"
    )
