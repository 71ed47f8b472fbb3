"""Every JSON message of the outward contract but the event itself (core/event), as frozen structs.

proto/consentledger/v1 describes the same messages, and a test keeps the two in step. Bytes are base64, times the one
encoding of core/encoding. A member at its default is left out.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from ledger.core import forms
from ledger.core.document import Storage
from ledger.core.event import AnyTime, DocumentHash, Event, Language, PurposeId, Region, VisitorId

Decision = Literal["granted", "denied"]
Status = Literal[
    "ConsentGiven", "ConsentRefused", "ConsentWithdrawn", "ConsentExpired", "ConsentUnknown", "ConsentInvalidated"
]


class Message(Struct, frozen=True, rename="camel", omit_defaults=True):
    """Outgoing: members at their default are left out."""


class Input(Struct, frozen=True, rename="camel", forbid_unknown_fields=True, omit_defaults=True):
    """Incoming: an unknown member is refused, so that a typing error is never taken for silence."""


class Receipt(Message, frozen=True):
    """What a post answers with: the entry as stored and its opening. `position` is `site:seq`."""

    id: str
    site: str
    seq: int
    recorded_at: str
    leaf_hash: str
    entry: str
    salt: str
    payload: str
    position: str
    proof: str = ""


class ReceiptMinimal(Message, frozen=True):
    """The receipt under `Prefer: return=minimal`."""

    id: str
    site: str
    seq: int
    position: str


class ConsistencyProof(Message, frozen=True):
    """That the log at the size `new` continues the one at the size `old` (RFC 6962 section 2.1.2): hashes in base64."""

    site: str
    old: int
    new: int
    proof: list[str]


class Problem(Message, frozen=True):
    """application/problem+json (RFC 9457). `pointer` is an RFC 6901 JSON pointer into the body."""

    type: str
    title: str
    status: int
    detail: str
    pointer: str = ""
    recorded: Receipt | None = None


class BatchResult(Message, frozen=True):
    """One line of the answer to a batch: the `line` it answers (from 1), its status, and a receipt or a problem."""

    line: int
    status: int
    receipt: ReceiptMinimal | None = None
    problem: Problem | None = None
    replayed: bool = False


class PurposeDecision(Message, frozen=True):
    """The answer for one purpose. `ask` and `notify` are always there; times are absent where there is none.

    `conflict`: this browser and the account that it is linked to answered differently. `conditional`: the grant was the
    price of access. `explanation`: on request, the rules in plain words, in the order in which they were tried.
    """

    decision: Decision
    reason: str
    ask: bool
    notify: bool
    status: Status | None = None
    regime: str | None = None
    decided_at: str | None = None
    valid_until: str | None = None
    policy_version: str | None = None
    seq: int | None = None
    conflict: bool = False
    conditional: bool = False
    explanation: list[str] = []


class Consent(Message, frozen=True):
    """One visitor's decisions. `linked`: the visitor is linked to an account, whose choices count. `erased`: the
    visitor was forgotten a moment ago, and nothing is recorded under this id: mint a new one."""

    site: str
    visitor: str
    position: str
    decisions: dict[str, PurposeDecision]
    policy_version: str | None = None
    linked: bool = False
    erased: bool = False


class CheckVisitor(Input, frozen=True):
    visitor: VisitorId
    region: Region | None = None


class CheckInput(Input, frozen=True):
    """Bulk question; an element of `visitors` is an id or an object with a region of its own."""

    visitors: Annotated[list[VisitorId | CheckVisitor], Meta(min_length=1, max_length=10_000)]
    purposes: Annotated[list[PurposeId], Meta(min_length=1, max_length=64)]
    at: AnyTime | None = None
    region: Region | None = None


class CheckAnswer(Message, frozen=True):
    decision: Decision
    reason: str
    valid_until: str | None = None


class CheckResults(Message, frozen=True):
    position: str
    results: dict[str, dict[str, CheckAnswer]]


class HistoryItem(Message, frozen=True):
    """One event of a visitor, as stored."""

    seq: int
    recorded_at: str
    event: Event


class History(Message, frozen=True):
    """A page of a visitor's events, oldest first. `next` is the cursor of the next page, absent on the last."""

    site: str
    visitor: str
    events: list[HistoryItem]
    next: str | None = None


class DownloadInput(Input, frozen=True):
    """A link that is wanted: of one person's export (`visitor`; `language` is for a page), or of a whole site's."""

    what: Literal["person", "site"]
    visitor: VisitorId | None = None
    format: Literal["json", "html"] = "json"
    language: Language | None = None


class Download(Message, frozen=True):
    """A link that works once, until then."""

    url: str
    expires_at: str


ConsumerName = Annotated[str, forms.CONSUMER.meta]


class ErasuresConfirmInput(Input, frozen=True):
    """A consumer's word: every erasure up to this position (`site:seq`) is applied where it keeps copies."""

    consumer: ConsumerName
    position: str


class ErasuresConfirmed(Message, frozen=True):
    """Up to where a consumer has confirmed erasures. It never goes back."""

    site: str
    consumer: str
    position: str
    confirmed_at: str


class PolicyPublished(Message, frozen=True):
    """The answer to publishing a version: its entry in the log and its document."""

    site: str
    version: str
    document: str
    seq: int
    position: str


CookieName = Annotated[str, Meta(min_length=1, max_length=128)]
Reviewer = Annotated[str, forms.REVIEWER.meta]
"""A role, like `data protection officer`: nobody's name is needed, and no address is taken."""


class CookiesObserved(Input, frozen=True):
    """Names of cookies, or of what else a browser stores, that were found on a page. Never values."""

    names: Annotated[list[CookieName], Meta(min_length=1, max_length=100)]
    storage: Storage = "cookie"


class CookiesKept(Message, frozen=True):
    """Under which names they were kept: as declared, or with `*` for what looks like an identifier. `dropped`: new ones
    that found no room."""

    site: str
    storage: Storage
    names: list[str]
    dropped: int = 0


class DeclaredCookie(Message, frozen=True):
    """A cookie that the policy in force declares, by a name, a pattern or a description alone, and when (UTC) it was
    seen on pages."""

    purpose: str
    storage: Storage
    seen: bool
    name: str | None = None
    pattern: str | None = None
    description: dict[str, str] = {}
    first_seen: str | None = None
    last_seen: str | None = None
    days: int = 0


class UndeclaredCookie(Message, frozen=True):
    """A name that was seen on pages on so many days (UTC), and that the policy in force does not declare."""

    storage: Storage
    name: str
    first_seen: str
    last_seen: str
    days: int


class CookieReview(Message, frozen=True):
    """That somebody went through the inventory. `inventory` is its hash, `declared` and `undeclared` their numbers."""

    site: str
    n: int
    by: str
    reviewed_at: str
    policy_version: str
    inventory: str
    declared: int = 0
    undeclared: int = 0


class CookieInventory(Message, frozen=True):
    """What the policy in force declares against what was seen. `due`: when the next review is, where the policy wants
    reviews; `overdue_seconds`: for how long it is overdue."""

    site: str
    policy_version: str
    inventory: str
    declared: list[DeclaredCookie]
    undeclared: list[UndeclaredCookie]
    last_review: CookieReview | None = None
    review_every: str | None = None
    due: str | None = None
    overdue_seconds: int = 0


class CookieReviewInput(Input, frozen=True):
    """A review. With `inventory` it is refused where that is no longer the inventory."""

    by: Reviewer
    inventory: DocumentHash | None = None


class PolicyItem(Message, frozen=True):
    """One published version. `effective_at`: since when it holds, or will, which is never before it was published."""

    version: str
    effective_at: str
    published_at: str
    seq: int
    document: str
    in_force: bool


class PolicyList(Message, frozen=True):
    """A page of a site's versions, the newest in the log first. `next` is the cursor of the next page."""

    site: str
    policies: list[PolicyItem]
    next: str | None = None


class PolicyChange(Message, frozen=True):
    """One difference between two versions, in words. Without a `purpose` it is of the site as a whole."""

    path: str
    what: str
    purpose: str | None = None
    material: bool = False


class AskedAgain(Message, frozen=True):
    """A purpose that visitors are asked for again, and why."""

    purpose: str
    why: list[str]


class PolicyDiff(Message, frozen=True):
    """What a version changes, compared with an earlier one (`before`; absent for the first).

    `asks_again`: why grants that were given under `before` do not hold under `after`; what other versions
    between the two changed counts too. `not_material`: the author's reasons on record why a change asks nobody again.
    """

    site: str
    after: str
    changes: list[PolicyChange]
    before: str | None = None
    asks_again: list[AskedAgain] = []
    not_material: dict[str, str] = {}


class DocumentStored(Message, frozen=True):
    """The answer to an upload: under which SHA-256 (hex) the document is kept, as what, and how large it is."""

    document: str
    media_type: str
    size_bytes: int


class ReadinessCheck(Message, frozen=True):
    ok: bool
    detail: str


class Readiness(Message, frozen=True):
    """`/readyz`: whether reads and writes can be served, and why not."""

    read: bool
    write: bool
    checks: dict[str, ReadinessCheck]
