"""The site document: what one version of a site's policy says, and its published encoding.

Only the shape is here: core/document_reader checks what an author wrote, core/decide gives it its meaning. A member
at its default is left out of the encoding, so a document published before a member existed keeps its bytes.
"""

from __future__ import annotations

from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from ledger.core.duration import Duration
from ledger.core.encoding import decode_time, encode_json
from ledger.core.regions import DEFAULT, Regime

Party = Literal["first", "third"]
Storage = Literal["cookie", "localStorage", "sessionStorage", "indexedDB", "pixel"]
Texts = dict[str, str]
"""A text in each of the site's languages, by BCP 47 tag."""


class _Part(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A part of the document; every part is immutable once read."""


class Controller(_Part, frozen=True):
    """Who answers for the processing. `bin` is Kazakhstan's business identification number."""

    name: str
    bin: str | None = None
    address: str | None = None
    email: str | None = None
    phone: str | None = None


class PolicyVersion(_Part, frozen=True):
    """One version of the policy's text. `material` says for which purposes it asks again: all, none, or those named."""

    version: str
    effective_at: str
    url: str
    material: bool | tuple[str, ...] = True


class Cookie(_Part, frozen=True):
    """A cookie or another stored thing. It lives for `duration` (a period, `session`, or `persistent` where the policy
    names no period), or until that long unused (`inactivity`). `conditional`: set only where its tool is switched on.
    """

    name: str | None = None
    pattern: str | None = None
    description: Texts = {}
    duration: Duration | Literal["session", "persistent"] | None = None
    inactivity: Duration | None = None
    party: Party = "first"
    storage: Storage = "cookie"
    conditional: bool = False


class Recipient(_Part, frozen=True):
    """Who receives what is gathered, and where: a country, or a group such as EU."""

    name: str
    region: str | None = None


class Purpose(_Part, frozen=True):
    """What consent is asked for. `required` purposes are never asked; `removed_in` keeps one on record, unoffered."""

    title: Texts
    description: Texts
    required: bool = False
    in_use: bool = True
    removed_in: str | None = None
    cookies: tuple[Cookie, ...] = ()
    recipients: tuple[Recipient, ...] = ()
    regimes: dict[str, Regime] = {}
    renew_after: Duration | None = None
    retention: Duration | None = None
    """How long the data gathered for this purpose is kept."""


class ReaskAfter(_Part, frozen=True):
    """How long a denial keeps the banner away; None: for good."""

    refusal: Duration | None = None
    withdrawal: Duration | None = None


NEVER_AGAIN = ReaskAfter()
"""The default; the very object, for the encoder tells a struct's default by identity."""


class SiteDocument(_Part, frozen=True):
    """One published version of a site's policy, whole."""

    site: str
    controller: Controller
    languages: tuple[str, ...]
    origins: tuple[str, ...]
    policy: PolicyVersion
    purposes: dict[str, Purpose]
    renew_after: Duration
    reask_after: ReaskAfter = NEVER_AGAIN
    regimes: dict[str, Regime] = {}
    announce_changes: bool = False
    """Every new version is shown to returning visitors, also one that is material for nothing."""
    review_cookies_every: Duration | None = None
    laws: tuple[str, ...] = ()
    entry_bundles_public: bool = False

    @property
    def version(self) -> str:
        return self.policy.version

    @property
    def effective_ms(self) -> int:
        """Since when the document says that it holds; it never holds before it is published."""
        return decode_time(self.policy.effective_at)

    def offers(self, purpose: str) -> bool:
        """Whether the purpose exists in this version, be it required or optional."""
        found = self.purposes.get(purpose)
        return found is not None and found.removed_in is None

    def asks(self, purpose: str) -> bool:
        """Whether this version leaves the purpose to the visitor."""
        return self.offers(purpose) and not self.purposes[purpose].required

    def material_for(self, purpose: str) -> bool:
        """Whether this version says that grants of earlier versions no longer hold for the purpose."""
        material = self.policy.material
        return material if isinstance(material, bool) else purpose in material

    def regimes_of(self, purpose: str) -> dict[str, Regime]:
        """The regime table of a purpose: its own entries over the site's; opt-in where neither has a default."""
        found = self.purposes.get(purpose)
        return {DEFAULT: "opt-in", **self.regimes, **(found.regimes if found else {})}

    def renewal_of(self, purpose: str) -> Duration:
        """How long a grant of the purpose lasts."""
        found = self.purposes.get(purpose)
        return (found.renew_after if found else None) or self.renew_after

    def allows_origin(self, origin: str) -> bool:
        """Whether a browser page of this origin (RFC 6454: scheme, host, port) belongs to the site."""
        if origin in self.origins:
            return True
        parts = split_origin(origin)
        if parts is None:
            return False
        scheme, host, port = parts
        for allowed in map(split_origin, self.origins):
            if allowed is not None and (scheme, port) == (allowed[0], allowed[2]) and allowed[1].startswith("*."):
                domain = allowed[1][1:]
                if host.endswith(domain) and host != domain:
                    return True
        return False


def split_origin(origin: str) -> tuple[str, str, int | None] | None:
    """Scheme, host and port of an origin; None for anything that is not one."""
    try:
        parts = urlsplit(origin)
        port = parts.port
    except ValueError:
        return None
    if not parts.hostname or origin != f"{parts.scheme}://{parts.netloc}" or "@" in parts.netloc:
        return None
    return parts.scheme, parts.hostname, port


def encode_document(document: SiteDocument) -> bytes:
    """Canonical JSON: the bytes that are hashed, published and stored."""
    return encode_json(msgspec.to_builtins(document, enc_hook=_encode_part))


def _encode_part(part: Any) -> str:
    if isinstance(part, Duration):
        return str(part)
    raise TypeError(f"a site document does not hold {type(part).__name__}")
