"""The versions of a site's policy: reading and publishing one, and which of them held at a time, as far as was known.

What a version says about one purpose is in core/document; what follows for a visitor is in core/decide.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

from ledger.core.document import (
    Controller,
    Cookie,
    PolicyVersion,
    Purpose,
    ReaskAfter,
    Recipient,
    SiteDocument,
    encode_document,
)
from ledger.core.document_reader import read_document
from ledger.core.errors import DocumentInvalid
from ledger.core.notice import pictures_of
from ledger.core.policy_diff import Diff, asks_again, diff
from ledger.core.source import MAX_DOCUMENT_BYTES, read_source

__all__ = [
    "MAX_DOCUMENT_BYTES",
    "Controller",
    "Cookie",
    "PolicyHistory",
    "PolicyVersion",
    "Published",
    "Purpose",
    "ReaskAfter",
    "Recipient",
    "SiteDocument",
    "decode_document",
    "documents_named_in",
    "encode_document",
    "parse_site_document",
]


def parse_site_document(data: bytes) -> SiteDocument:
    """A site document as its author wrote it, in YAML or JSON; `DocumentInvalid` with the path of what is wrong."""
    return read_document(read_source(data))


def decode_document(data: bytes) -> SiteDocument:
    """A published document, from the bytes of `encode_document`."""
    return parse_site_document(data)


class Published(NamedTuple):
    """One policy entry of the log: its seq, its time, and SHA-256 and content of the document."""

    seq: int
    published_ms: int
    document_hash: bytes
    document: SiteDocument

    @property
    def effect_ms(self) -> int:
        """Since when the version holds: never earlier than it was published."""
        return max(self.published_ms, self.document.effective_ms)


class PolicyHistory:
    """Every version published so far, ascending by seq. Immutable; `known` gives an earlier state of knowledge."""

    __slots__ = (
        "_by_version",
        "_diffs",
        "_effects_ms",
        "_in_effect_order",
        "_order",
        "_published",
        "_reasons",
        "_shown_since",
    )

    def __init__(self, published: tuple[Published, ...] = (), diffs: dict[tuple[int, int], Diff] | None = None) -> None:
        """`diffs`, by the seqs of two entries, are those of another history of the same log, to be shared."""
        if any(later.seq <= earlier.seq for earlier, later in pairwise(published)):
            raise ValueError("policy entries come in ascending order of seq")
        self._published = published
        ordered = sorted(published, key=lambda entry: (entry.effect_ms, entry.seq))
        self._in_effect_order = tuple(ordered)
        self._effects_ms = tuple(entry.effect_ms for entry in ordered)
        self._by_version = {entry.document.version: entry for entry in reversed(published)}
        self._order = {entry.document.version: index for index, entry in enumerate(ordered)}
        self._diffs = {} if diffs is None else diffs
        self._reasons: dict[tuple[int, str], tuple[str, ...]] = {}
        self._shown_since: dict[str, int] = {}
        for entry in published:
            for digest in (entry.document_hash.hex(), *named_documents(entry.document)):
                self._shown_since.setdefault(digest, entry.seq)

    def __iter__(self) -> Iterator[Published]:
        return iter(self._published)

    def __len__(self) -> int:
        return len(self._published)

    @property
    def in_effect_order(self) -> tuple[Published, ...]:
        """Ascending by the time of effect, ties by seq: of two versions the later one here is the newer."""
        return self._in_effect_order

    @property
    def effects_ms(self) -> tuple[int, ...]:
        """The times of effect of `in_effect_order`."""
        return self._effects_ms

    def order_of(self, version: str) -> int | None:
        """The index of a version in `in_effect_order`."""
        return self._order.get(version)

    @property
    def latest(self) -> Published | None:
        """The last one published, be it in force or not."""
        return self._published[-1] if self._published else None

    @property
    def last_seq(self) -> int:
        return self._published[-1].seq if self._published else -1

    def known(self, known_seq: int | None) -> PolicyHistory:
        """What was published up to and including `known_seq`; None: everything."""
        if known_seq is None or known_seq >= self.last_seq:
            return self
        return PolicyHistory(tuple(entry for entry in self._published if entry.seq <= known_seq), self._diffs)

    def followed_by(self, newer: tuple[Published, ...]) -> PolicyHistory:
        """The history with what was published after it; what is compared already is not compared again."""
        return PolicyHistory((*self._published, *newer), self._diffs)

    def in_force(self, at_ms: int, known_seq: int | None = None) -> Published | None:
        """The version that held at a time, of those known then."""
        history = self.known(known_seq)
        index = bisect_right(history._effects_ms, at_ms) - 1
        return history._in_effect_order[index] if index >= 0 else None

    def get(self, version: str, known_seq: int | None = None) -> Published | None:
        """The entry that published a version."""
        found = self._by_version.get(version)
        return found if found is not None and (known_seq is None or found.seq <= known_seq) else None

    def material(self, index: int, purpose: str) -> bool:
        """Whether the version at `index` of `in_effect_order` ends the grants that earlier versions were given."""
        return bool(self.why_material(index, purpose))

    def why_material(self, version: int | str, purpose: str) -> tuple[str, ...]:
        """Why it does, in words; empty if it does not. The first version replaces none, so there are no grants."""
        index = self._order[version] if isinstance(version, str) else version
        if index == 0 or purpose not in self._in_effect_order[index].document.purposes:
            return ()
        reasons = self._reasons.get((index, purpose))
        if reasons is None:
            reasons = self._reasons[index, purpose] = self._why_material(index, purpose)
        return reasons

    def _why_material(self, index: int, purpose: str) -> tuple[str, ...]:
        entry, document = self._in_effect_order[index], self._in_effect_order[index].document
        changes = self.diff_at(index)
        found = asks_again(changes, document, purpose)
        if self._in_effect_order[index - 1].seq > entry.seq:
            # Published later, for an earlier time: what is on record as not material is said of other changes.
            found = found or changes.reasons(purpose)
        *earlier, before = (entry.document for entry in self._in_effect_order[:index])
        is_back = document.offers(purpose) and not before.offers(purpose) and any(e.offers(purpose) for e in earlier)
        if is_back and not found and purpose not in document.policy.not_material:
            return (f"a purpose comes back: {purpose}",)  # under an alias, though it had answers of its own
        return found

    def diff_at(self, index: int) -> Diff:
        """What the version at `index` of `in_effect_order` changes, compared with the one before it there."""
        before = self._in_effect_order[index - 1] if index else None
        after = self._in_effect_order[index]
        key = (before.seq if before else -1, after.seq)
        found = self._diffs.get(key)
        if found is None:
            found = self._diffs[key] = diff(before.document if before else None, after.document)
        return found

    def shows(self, digest: str, known_seq: int | None = None) -> bool:
        """Whether a document (SHA-256 in hex) was published for this site by then: a policy document, a notice, or what
        an acceptance is about."""
        since = self._shown_since.get(digest)
        return since is not None and (known_seq is None or since <= known_seq)


def documents_named_in(body: bytes) -> tuple[str, ...]:
    """What a document at hand names (SHA-256 in hex): a site document or a notice, for nothing else names any."""
    if not body.startswith(b"{"):
        return ()
    try:
        return named_documents(decode_document(body))
    except DocumentInvalid:
        return pictures_of(body)


def named_documents(document: SiteDocument) -> tuple[str, ...]:
    """The documents (SHA-256 in hex) that a version names: its notices, and what its acceptances are about. Sorted."""
    notices = (notice.document for notice in document.notices.values())
    accepted = (purpose.document for purpose in document.purposes.values() if purpose.document is not None)
    return tuple(sorted({*notices, *accepted}))
