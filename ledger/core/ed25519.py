"""Ed25519 as audit rules 7 and 8 demand it (RFC 8032, cofactorless; libsodium refuses S >= order and small-order R)."""

from __future__ import annotations

from nacl import bindings
from nacl._sodium import ffi, lib

from ledger.core.errors import BadSignature, KeyRefused

# As nacl.bindings calls it, without the copy of the message that it gives back: audits verify millions.
_open = lib.crypto_sign_open
_NULL = ffi.NULL

PUBLIC_BYTES = 32
SIGNATURE_BYTES = 64
SEED_BYTES = 32


class SigningKey:
    """A private key from its 32-byte seed. It never prints its secret."""

    __slots__ = ("_secret", "public")

    def __init__(self, seed: bytes) -> None:
        if len(seed) != SEED_BYTES:
            raise ValueError("an Ed25519 seed has 32 bytes")
        public, secret = bindings.crypto_sign_seed_keypair(seed)
        self.public: bytes = public
        self._secret: bytes = secret

    @property
    def seed(self) -> bytes:
        return self._secret[:SEED_BYTES]

    def sign(self, message: bytes) -> bytes:
        """The 64-byte signature; deterministic."""
        signed: bytes = bindings.crypto_sign(message, self._secret)
        return signed[:SIGNATURE_BYTES]

    def confirm(self, message: bytes, signature: bytes) -> None:
        """Raise `BadSignature` unless `signature` is the one that this key makes of `message`.

        Ed25519 is deterministic, so to make it again is to check it, at a third of the cost of `verify`. A library
        that signs wrongly each time is found when the key is loaded, by `verify`.
        """
        if self.sign(message) != signature:
            raise BadSignature("this key does not make this signature")

    def __repr__(self) -> str:
        return f"SigningKey(public={self.public.hex()})"


def verify(public: bytes, message: bytes, signature: bytes) -> None:
    """Raise `BadSignature` unless `public` made `signature` over exactly `message`."""
    if len(signature) != SIGNATURE_BYTES or len(public) != PUBLIC_BYTES:
        raise BadSignature("a signature has 64 bytes and a public key 32")
    if _open(_NULL, _NULL, signature + message, SIGNATURE_BYTES + len(message), public):
        raise BadSignature("the key did not make this signature")


def check_public(public: bytes) -> None:
    """Raise `KeyRefused` unless the point is canonical, on the curve and of prime order (rule 8)."""
    if len(public) != PUBLIC_BYTES or not bindings.crypto_core_ed25519_is_valid_point(public):
        raise KeyRefused("the Ed25519 public key is not a canonical point of prime order")
