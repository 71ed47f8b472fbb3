"""The little of JOSE that a signed statement needs: Ed25519 as EdDSA in the compact form (RFC 7515, 8037), key names
(RFC 7638).

Strict both ways: what is read has exactly the header that is written here, so no reader can be told another algorithm.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from hashlib import sha256
from typing import NamedTuple

from ledger.core import ed25519
from ledger.core.encoding import decode_json, encode_json
from ledger.core.errors import KeyRefused, Malformed


class Signed(NamedTuple):
    """A statement in its compact form, taken apart. `public` is the key that the header names, no more."""

    payload: bytes
    signed: bytes
    signature: bytes
    public: bytes

    @property
    def key_name(self) -> str:
        return thumbprint(self.public)

    def check(self) -> None:
        """Raise `BadSignature` unless the key named in the header signed it."""
        ed25519.verify(self.public, self.signed, self.signature)


def base64url(data: bytes) -> str:
    """Without padding (RFC 7515 section 2)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def decode_base64url(text: str) -> bytes:
    """The bytes of canonical base64url without padding; anything else is `Malformed`."""
    try:
        data = base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise Malformed("not canonical base64url") from error
    if base64url(data) != text:
        raise Malformed("not canonical base64url")
    return data


def public_jwk(public: bytes) -> dict[str, str]:
    """The required members of an Ed25519 key (RFC 8037 section 2)."""
    return {"crv": "Ed25519", "kty": "OKP", "x": base64url(public)}


def thumbprint(public: bytes) -> str:
    """The name of an Ed25519 key: SHA-256 of its required members in their order (RFC 7638, RFC 8037 appendix A.3)."""
    return base64url(sha256(encode_json(public_jwk(public))).digest())


def sign(payload: bytes, media_type: str, key: ed25519.SigningKey) -> bytes:
    """The payload in the compact form, with the key itself in the header, so that it can be checked offline."""
    return compact(_header(media_type, key.public), payload, key)


def compact(header: Mapping[str, object], payload: bytes, key: ed25519.SigningKey) -> bytes:
    """The compact form of a signed payload (RFC 7515 section 7.1)."""
    signed = f"{base64url(encode_json(dict(header)))}.{base64url(payload)}".encode("ascii")
    return signed + b"." + base64url(key.sign(signed)).encode("ascii")


def parse(token: bytes, media_type: str) -> Signed:
    """Take a statement apart. `Malformed` unless it is in the compact form with the one header of this type."""
    try:
        parts = token.decode("ascii").split(".")
    except UnicodeDecodeError as error:
        raise Malformed("a signed statement is ASCII") from error
    if len(parts) != 3:
        raise Malformed("a signed statement has three parts, joined by dots")
    header_bytes, payload, signature = map(decode_base64url, parts)
    header = decode_json(header_bytes)
    named = header.get("jwk")
    if not isinstance(named, dict) or not isinstance(named.get("x"), str):
        raise Malformed("the header names no Ed25519 key")
    public = decode_base64url(named["x"])
    if len(public) != ed25519.PUBLIC_BYTES or header != _header(media_type, public):
        raise Malformed(f"the header is not that of a {media_type} by an Ed25519 key")
    try:
        ed25519.check_public(public)
    except KeyRefused as error:
        raise Malformed(f"the header's key cannot be used: {error}") from error
    return Signed(payload, f"{parts[0]}.{parts[1]}".encode("ascii"), signature, public)


def _header(media_type: str, public: bytes) -> dict[str, object]:
    return {"alg": "EdDSA", "jwk": public_jwk(public), "kid": thumbprint(public), "typ": media_type}
