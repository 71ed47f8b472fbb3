"""The site document: what one version of a site's policy says, and its published encoding.

Only the shape is here: core/document_reader checks what an author wrote, core/decide gives it its meaning. A member
at its default is left out of the encoding, so a document published before a member existed keeps its bytes.
"""

from __future__ import annotations

from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from ledger.core.deadlines import UTC_OFFSET, Period, WorkingDays
from ledger.core.duration import Duration
from ledger.core.encoding import decode_time, encode_json
from ledger.core.regions import DEFAULT, Regime

Party = Literal["first", "third"]
Storage = Literal["cookie", "localStorage", "sessionStorage", "indexedDB", "pixel"]
Kind = Literal["consent", "acceptance", "transfer", "attestation"]
"""What a grant means: leave to process, acceptance of a document (click-wrap), leave to transfer to a destination, or a
statement of age. An objection is the denial of a purpose whose regime is opt-out or exempt."""
LegalBasis = Literal[
    "consent", "legitimate_interest", "contract", "legal_obligation", "vital_interest", "public_task", "exemption"
]
Role = Literal["processor", "controller", "joint_controller"]
TransferBasis = Literal["adequacy", "consent", "contractual_clauses", "binding_rules", "derogation"]
Announcement = Literal["posted", "first-visit", "email"]
Counted = Literal["act", "end"]
"""From when the retention of a record is counted: from the act itself, or from when it stopped to count (a grant that
lapsed, a denial after which the question may come back, either of them when a newer answer took its place)."""
ConsentSignal = Literal[
    "ad_storage",
    "ad_user_data",
    "ad_personalization",
    "analytics_storage",
    "functionality_storage",
    "personalization_storage",
    "security_storage",
]
"""Google Consent Mode v2."""
Texts = dict[str, str]
"""A text in each of the site's languages, by BCP 47 tag."""


class _Part(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A part of the document; every part is immutable once read."""


class Controller(_Part, frozen=True):
    """Who answers for the processing. `bin` is Kazakhstan's business identification number."""

    name: str
    bin: str | None = None
    country: str | None = None
    address: str | None = None
    email: str | None = None
    phone: str | None = None


class Contact(_Part, frozen=True):
    """Whom to turn to beside the controller itself, and about what."""

    about: Texts
    email: str | None = None
    phone: str | None = None
    url: str | None = None


class Authority(_Part, frozen=True):
    """Who takes complaints, from visitors of which regions (all where none is named)."""

    name: Texts
    url: str | None = None
    regions: tuple[str, ...] = ()


class PolicyVersion(_Part, frozen=True):
    """One version of the policy's text. `material`: for which purposes its author says that it asks again: all, none or
    those named. What the diff to the version before finds material asks again too, save for the purposes in
    `not_material`, each with the reason that is put on record.
    """

    version: str
    effective_at: str
    url: str
    material: bool | tuple[str, ...] = True
    not_material: dict[str, str] = {}


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
    clear_on_withdrawal: bool = True


class Recipient(_Part, frozen=True):
    """Who receives what is gathered, as what, where (a country or a group such as EU), on what the transfer rests."""

    name: str
    role: Role = "processor"
    region: str | None = None
    transfer: TransferBasis | None = None


class DataCategory(_Part, frozen=True):
    """A kind of data that is gathered. `dpv` is its term in W3C's DPV, like `pd:IPAddress`."""

    title: Texts
    dpv: str | None = None


class ReaskAfter(_Part, frozen=True):
    """How long an answer keeps the question away. None: for good after a denial, not at all after a dismissal."""

    refusal: Duration | None = None
    withdrawal: Duration | None = None
    dismissal: Duration | None = None


NEVER_AGAIN = ReaskAfter()
"""The default; the very object, for the encoder tells a struct's default by identity."""


class Purpose(_Part, frozen=True):
    """What consent is asked for.

    `required` purposes are never asked. `removed_in` keeps one on record, unoffered; `alias_of` names the purpose of
    earlier versions that this one goes on with, whose answers count for it. `withdrawable`: False, with the reason in
    `withdrawal_bar`, where law or an unfulfilled obligation stands against it. `needs`: attestations without which no
    grant holds, save a guardian's. `minimum_age` (years, by region) belongs to an attestation, `destination` to a
    transfer, `document` (SHA-256 in hex) to an acceptance.
    """

    title: Texts
    description: Texts
    kind: Kind = "consent"
    required: bool = False
    in_use: bool = True
    alias_of: str | None = None
    removed_in: str | None = None
    cookies: tuple[Cookie, ...] = ()
    recipients: tuple[Recipient, ...] = ()
    data: dict[str, DataCategory] = {}
    publication: bool = False
    """Whether the data is made public (Kazakhstan, Law 94-V, article 8)."""
    legal_basis: dict[str, LegalBasis] = {}
    """By region, like `regimes`."""
    laws: tuple[str, ...] = ()
    regimes: dict[str, Regime] = {}
    renew_after: Duration | None = None
    reask_after: ReaskAfter | None = None
    retention: Duration | None = None
    """How long the data gathered for this purpose is kept. An acceptance gathers nothing but its own record, which is
    kept for so long from the act on, also after the person was erased (a mandatory term), and is then deleted."""
    record_retention: Duration | None = None
    """How long the record of an answer to this purpose is kept; goes over the site's."""
    withdrawable: bool = True
    withdrawal_bar: Texts = {}
    needs: tuple[str, ...] = ()
    minimum_age: dict[str, int] = {}
    destination: str | None = None
    document: str | None = None
    dpv: tuple[str, ...] = ()
    """Terms of W3C's DPV, like `dpv:Marketing`."""
    consent_mode: tuple[ConsentSignal, ...] = ()


class Notice(_Part, frozen=True):
    """A notice artefact: the published document (SHA-256 in hex) that shows what a visitor was shown."""

    document: str
    media_type: str
    language: str | None = None


class SiteDocument(_Part, frozen=True):
    """One published version of a site's policy, whole."""

    site: str
    controller: Controller
    languages: tuple[str, ...]
    origins: tuple[str, ...]
    policy: PolicyVersion
    purposes: dict[str, Purpose]
    renew_after: Duration
    order: tuple[str, ...] = ()
    """Every purpose, in the author's order, which `purposes` has too once it is read: the encoding sorts it."""
    reask_after: ReaskAfter = NEVER_AGAIN
    reask_after_in: dict[str, ReaskAfter] = {}
    """By region or group, over `reask_after`."""
    regimes: dict[str, Regime] = {}
    announce_changes: Announcement = "posted"
    """How visitors learn of a new version. On the `first-visit` after it, also where it is material for nothing."""
    notices: dict[str, Notice] = {}
    contacts: tuple[Contact, ...] = ()
    authorities: tuple[Authority, ...] = ()
    answer_within: dict[str, Period] = {}
    """How soon a subject's request is answered, by region or group, or `default`."""
    answer_extension: dict[str, Period] = {}
    """By how much an answer may be put off once, by a key of `answer_within`: not at all under one that is not here."""
    answer_on_working_day: bool = False
    """Whether a deadline that falls on a Saturday or Sunday moves to the Monday after it."""
    utc_offset: str = UTC_OFFSET
    """Of the days in which those deadlines are counted."""
    record_retention: Duration | None = None
    """How long the record of an event is kept, counted as `record_retention_counted` says; None: until it is erased. A
    version that names a longer period does not reach back: a record is kept for the shortest period that was named from
    the version it was made under until now."""
    record_retention_of: dict[str, Duration] = {}
    """By type of event, over `record_retention`; a purpose's own goes over both."""
    record_retention_counted: Counted = "end"
    suppress_for: Duration | None = None
    """How long a keyed mark goes on denying what was denied, after the denial itself was erased; None: the default of
    the installation (config.SUPPRESS_FOR), and only where silence could grant: what is opt-in everywhere needs none, as
    long as no later version says otherwise. Where it is named every denial is remembered.
    """
    stored_in: tuple[str, ...] = ()
    """Countries in which the ledger's database lies."""
    residency: tuple[str, ...] = ()
    """Countries whose law wants the database kept there (Kazakhstan, Law 94-V, article 12)."""
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

    def names_of(self, purpose: str) -> tuple[str, ...]:
        """A purpose and those that it goes on with, the newest first, also where they go round in a circle."""
        names = [purpose]
        while (found := self.purposes.get(names[-1])) is not None and found.alias_of not in (None, *names):
            assert found.alias_of is not None
            names.append(found.alias_of)
        return tuple(names)

    def material_for(self, purpose: str) -> bool:
        """Whether this version says that grants of earlier versions no longer hold for the purpose."""
        material = self.policy.material
        return material if isinstance(material, bool) else purpose in material

    def regimes_of(self, purpose: str) -> dict[str, Regime]:
        """The regime table of a purpose: its own entries over the site's; opt-in where neither has a default, and for
        whatever is no plain consent: silence accepts no document, states no age and agrees to no transfer.
        """
        found = self.purposes.get(purpose)
        if found is not None and found.kind != "consent":
            return {DEFAULT: "opt-in"}
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
    if isinstance(part, Duration | WorkingDays):
        return str(part)
    raise TypeError(f"a site document does not hold {type(part).__name__}")
