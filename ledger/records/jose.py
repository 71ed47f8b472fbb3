"""The little of JOSE that a signed record needs: Ed25519 as EdDSA (RFC 7515, 8037), its JWK and thumbprint (RFC 7638).

Nothing is verified here: whoever gets a token has a library of his own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ledger.core.ed25519 import SigningKey
from ledger.core.encoding import encode_json
from ledger.core.jws import compact, public_jwk, thumbprint

JWK_SET_TYPE = "application/jwk-set+json"
JWT_TYPE = "application/jwt"


def jwk(public: bytes) -> dict[str, str]:
    """An Ed25519 public key for signatures (RFC 7517, RFC 8037 section 2)."""
    return {**public_jwk(public), "kid": thumbprint(public), "use": "sig", "alg": "EdDSA"}


def jwk_set(publics: Iterable[bytes]) -> bytes:
    """The document of RFC 7517 section 5."""
    return encode_json({"keys": [jwk(public) for public in publics]})


def signed_jwt(claims: Mapping[str, Any], key: SigningKey) -> bytes:
    """The claims as a JWS in its compact form (RFC 7515 section 7.1, RFC 7519)."""
    header = {"alg": "EdDSA", "kid": thumbprint(key.public), "typ": "JWT"}
    return compact(header, encode_json(dict(claims)), key)
