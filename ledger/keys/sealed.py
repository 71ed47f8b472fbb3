"""The text of a key file: a signing key sealed with AES-256-GCM, and in clear what it is. It touches no disk.

    consent-ledger key v1
    origin: ledger.example.com/shop.example.com
    role: ingest
    public: <base64 of the public key>
    lock: master-secret
    sealed: <base64 of nonce[12] ‖ AES-256-GCM(seed[32]) ‖ tag[16]>

Everything above `sealed:` is the associated data, so a key cannot be passed off as one of another log or role. The
sealing key is derived from the master secret, or from a passphrase for a key that goes where the master secret does
not (`lock: passphrase argon2id <ops> <memory bytes> <base64 salt[16]>`, RFC 9106).
"""

from __future__ import annotations

import contextlib
import os
import unicodedata
from hashlib import blake2b
from typing import NamedTuple

from nacl import bindings
from nacl.exceptions import CryptoError, UnavailableError
from nacl.pwhash import argon2id

from ledger import config
from ledger.core.ed25519 import PUBLIC_BYTES, SEED_BYTES, SigningKey, check_public
from ledger.core.encoding import decode_base64, decode_decimal, encode_base64
from ledger.core.entry import key_hash
from ledger.core.errors import ConfigInvalid, KeyRefused, Malformed
from ledger.core.note import TYPE_ED25519, VerifierKey, check_origin
from ledger.core.sealing import no_aes

ROLES = ("root", "ingest", "log", "receipt")
"""The first three are the log's. A receipt key signs renderings for others, and nothing that an audit looks at."""
MAGIC = "consent-ledger key v1"
BY_MASTER_SECRET = "master-secret"  # noqa: S105 - a lock's name, no secret
BY_PASSPHRASE = "passphrase argon2id"  # noqa: S105

_LABELS = ("origin", "role", "public", "lock", "sealed")
_NONCE_BYTES = bindings.crypto_aead_aes256gcm_NPUBBYTES
_SEALED_BYTES = _NONCE_BYTES + SEED_BYTES + bindings.crypto_aead_aes256gcm_ABYTES


class SealedKey(NamedTuple):
    """A key file's contents. Nothing in it is secret without the master secret or the passphrase."""

    origin: str
    role: str
    public: bytes
    lock: str
    sealed: bytes

    @property
    def key_id(self) -> str:
        """8 hex digits by which people tell keys apart."""
        return key_id(self.origin, self.role, self.public)

    @property
    def has_passphrase(self) -> bool:
        return self.lock.startswith(BY_PASSPHRASE)

    @property
    def header(self) -> bytes:
        """What is in clear, and authenticated."""
        return (
            f"{MAGIC}\norigin: {self.origin}\nrole: {self.role}\npublic: {encode_base64(self.public)}\n"
            f"lock: {self.lock}\n"
        ).encode()

    def encode(self) -> bytes:
        return self.header + f"sealed: {encode_base64(self.sealed)}\n".encode()


def key_id(origin: str, role: str, public: bytes) -> str:
    """Of a log key the keyID in its vkey, of the others the beginning of H(public), which entries name."""
    if role == "log":
        return VerifierKey(origin, TYPE_ED25519, public).key_id.hex()
    return key_hash(public)[:4].hex()


def parse_sealed_key(data: bytes) -> SealedKey:
    """Parse strictly, by round trip; `Malformed` or `KeyRefused` otherwise."""
    if len(data) > config.KEY_FILE_MAX_BYTES:
        raise Malformed("a key file is shorter")
    try:
        magic, *lines = data.decode("ascii").split("\n")
    except UnicodeDecodeError as error:
        raise Malformed("a key file is ASCII") from error
    if magic != MAGIC or len(lines) != len(_LABELS) + 1:
        raise Malformed(f"a key file begins with {MAGIC!r}, and five lines follow")
    origin, role, public, lock, sealed = (line.partition(": ")[2] for line in lines[:-1])
    key = SealedKey(origin, role, decode_base64(public), lock, decode_base64(sealed))
    if key.encode() != data:
        raise Malformed("a key file holds the lines " + ", ".join(_LABELS))
    check_origin(origin)
    if role not in ROLES:
        raise Malformed(f"there is no role {role[:20]!r}")
    if len(key.sealed) != _SEALED_BYTES:
        raise Malformed(f"a sealed key has {_SEALED_BYTES} bytes")
    if len(key.public) != PUBLIC_BYTES:
        raise KeyRefused("a public key has 32 bytes")
    check_public(key.public)
    if lock != BY_MASTER_SECRET:
        _argon2_parameters(lock)
    return key


def seal(key: SigningKey, origin: str, role: str, master_secret: bytes) -> SealedKey:
    """The file of a key for this installation."""
    check_origin(origin)
    unsealed = SealedKey(origin, role, key.public, BY_MASTER_SECRET, b"")
    return unsealed._replace(sealed=_encrypt(key, unsealed.header, _installation_key(master_secret)))


def seal_by_passphrase(key: SigningKey, origin: str, role: str, passphrase: str) -> SealedKey:
    """The file of a key that is to be kept elsewhere. `ConfigInvalid` for a passphrase that could be guessed."""
    if len(passphrase) < config.PASSPHRASE_MIN_CHARACTERS:
        raise ConfigInvalid(
            f"a passphrase needs at least {config.PASSPHRASE_MIN_CHARACTERS} characters: take six words"
        )
    salt = os.urandom(argon2id.SALTBYTES)
    lock = f"{BY_PASSPHRASE} {argon2id.OPSLIMIT_MODERATE} {argon2id.MEMLIMIT_MODERATE} {encode_base64(salt)}"
    unsealed = SealedKey(origin, role, key.public, lock, b"")
    return unsealed._replace(sealed=_encrypt(key, unsealed.header, _passphrase_key(lock, passphrase)))


def unseal(sealed: SealedKey, *master_secrets: bytes) -> SigningKey:
    """The key; `ConfigInvalid` if none of these master secrets opens it (two are known while one replaces another)."""
    if sealed.has_passphrase:
        raise ConfigInvalid("it is locked with a passphrase, not with the master secret")
    why_not = "LEDGER_MASTER_SECRET does not open it: it was made under another master secret, or was changed since"
    *others, last = map(_installation_key, master_secrets)
    for secret in others:
        with contextlib.suppress(ConfigInvalid):
            return _decrypt(sealed, secret, why_not)
    return _decrypt(sealed, last, why_not)


def is_sealed_under(sealed: SealedKey, master_secret: bytes) -> bool:
    """Whether this very master secret opens it."""
    try:
        unseal(sealed, master_secret)
    except ConfigInvalid:
        return False
    return True


def unseal_by_passphrase(sealed: SealedKey, passphrase: str) -> SigningKey:
    """The key; `ConfigInvalid` if this passphrase does not open it."""
    if not sealed.has_passphrase:
        raise ConfigInvalid("it is locked with the master secret, not with a passphrase")
    return _decrypt(
        sealed, _passphrase_key(sealed.lock, passphrase), "the passphrase does not open it, or it was changed since"
    )


def _encrypt(key: SigningKey, header: bytes, secret: bytes) -> bytes:
    nonce = os.urandom(_NONCE_BYTES)
    try:
        return nonce + bytes(bindings.crypto_aead_aes256gcm_encrypt(key.seed, header, nonce, secret))
    except UnavailableError as error:
        raise no_aes() from error


def _decrypt(sealed: SealedKey, secret: bytes, why_not: str) -> SigningKey:
    nonce, ciphertext = sealed.sealed[:_NONCE_BYTES], sealed.sealed[_NONCE_BYTES:]
    try:
        seed: bytes = bindings.crypto_aead_aes256gcm_decrypt(ciphertext, sealed.header, nonce, secret)
    except UnavailableError as error:
        raise no_aes() from error
    except CryptoError:
        raise ConfigInvalid(why_not) from None
    key = SigningKey(seed)
    if key.public != sealed.public:
        raise ConfigInvalid("the key inside is not the one that it names")
    return key


def _installation_key(master_secret: bytes) -> bytes:
    """Not the master secret itself: that also keys the hashes of visitors and ids."""
    return blake2b(b"", key=master_secret, digest_size=32, person=b"ledger key file").digest()


def _passphrase_key(lock: str, passphrase: str) -> bytes:
    ops, memory_bytes, salt = _argon2_parameters(lock)
    text = unicodedata.normalize("NFKC", passphrase)  # the same on every keyboard
    key: bytes = argon2id.kdf(32, text.encode(), salt, opslimit=ops, memlimit=memory_bytes)
    return key


def _argon2_parameters(lock: str) -> tuple[int, int, bytes]:
    """Operations, memory in bytes, salt. Bounded, for a file could ask for any amount of memory."""
    words = lock.removeprefix(BY_PASSPHRASE).split(" ")
    if not lock.startswith(BY_PASSPHRASE) or len(words) != 4 or words[0]:
        raise Malformed(f"the lock is {BY_MASTER_SECRET!r} or {BY_PASSPHRASE!r} with three parameters")
    ops, memory_bytes, salt = decode_decimal(words[1]), decode_decimal(words[2]), decode_base64(words[3])
    if not 1 <= ops <= config.PASSPHRASE_MAX_OPERATIONS:
        raise Malformed("the passphrase's lock asks for too many or too few operations")
    if not argon2id.MEMLIMIT_MIN <= memory_bytes <= config.PASSPHRASE_MAX_MEMORY_BYTES:
        raise Malformed("the passphrase's lock asks for too much or too little memory")
    if len(salt) != argon2id.SALTBYTES:
        raise Malformed(f"the passphrase's salt has {argon2id.SALTBYTES} bytes")
    return ops, memory_bytes, salt
