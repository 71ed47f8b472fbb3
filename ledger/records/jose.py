"""The little of JOSE that a signed record needs: Ed25519 as EdDSA (RFC 7515, 8037), its JWK and thumbprint (RFC 7638).

Nothing is verified here: whoever gets a token has a library of his own.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Any

from ledger.core.ed25519 import SigningKey
from ledger.core.encoding import encode_json

JWK_SET_TYPE = "application/jwk-set+json"
JWT_TYPE = "application/jwt"


def base64url(data: bytes) -> str:
    """Without padding (RFC 7515 section 2)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def thumbprint(public: bytes) -> str:
    """The name of an Ed25519 key: SHA-256 of its required members in their order (RFC 7638, RFC 8037 appendix A.3)."""
    return base64url(sha256(encode_json({"crv": "Ed25519", "kty": "OKP", "x": base64url(public)})).digest())


def jwk(public: bytes) -> dict[str, str]:
    """An Ed25519 public key for signatures (RFC 7517, RFC 8037 section 2)."""
    return {
        "kty": "OKP",
        "crv": "Ed25519",
        "x": base64url(public),
        "kid": thumbprint(public),
        "use": "sig",
        "alg": "EdDSA",
    }


def jwk_set(publics: Iterable[bytes]) -> bytes:
    """The document of RFC 7517 section 5."""
    return encode_json({"keys": [jwk(public) for public in publics]})


def signed_jwt(claims: Mapping[str, Any], key: SigningKey) -> bytes:
    """The claims as a JWS in its compact form (RFC 7515 section 7.1, RFC 7519)."""
    header = {"alg": "EdDSA", "kid": thumbprint(key.public), "typ": "JWT"}
    signed = f"{base64url(encode_json(header))}.{base64url(encode_json(dict(claims)))}".encode("ascii")
    return signed + b"." + base64url(key.sign(signed)).encode("ascii")
