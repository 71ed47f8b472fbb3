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

    __slots__ = ("_by_version", "_effects_ms", "_in_effect_order", "_order", "_published")

    def __init__(self, published: tuple[Published, ...] = ()) -> None:
        if any(later.seq <= earlier.seq for earlier, later in pairwise(published)):
            raise ValueError("policy entries come in ascending order of seq")
        self._published = published
        ordered = sorted(published, key=lambda entry: (entry.effect_ms, entry.seq))
        self._in_effect_order = tuple(ordered)
        self._effects_ms = tuple(entry.effect_ms for entry in ordered)
        self._by_version = {entry.document.version: entry for entry in reversed(published)}
        self._order = {entry.document.version: index for index, entry in enumerate(ordered)}

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
        return PolicyHistory(tuple(entry for entry in self._published if entry.seq <= known_seq))

    def in_force(self, at_ms: int, known_seq: int | None = None) -> Published | None:
        """The version that held at a time, of those known then."""
        history = self.known(known_seq)
        index = bisect_right(history._effects_ms, at_ms) - 1
        return history._in_effect_order[index] if index >= 0 else None

    def get(self, version: str, known_seq: int | None = None) -> Published | None:
        """The entry that published a version."""
        found = self._by_version.get(version)
        return found if found is not None and (known_seq is None or found.seq <= known_seq) else None
