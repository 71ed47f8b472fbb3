"""What must be unique in the whole log, in 8 bytes a value: keyed fingerprints, compared once all are there.

Equal fingerprints are only a suspicion. The caller reads the log again and hands the suspected values to a `Recheck`,
which compares them whole; so a collision costs time and never an answer.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from hashlib import blake2b

FINGERPRINT_BYTES = 8
MAX_SUSPECTS = 4_096
"""With a key that the log's author cannot know, so many equal fingerprints are real repetitions; these are enough."""

_BUCKETS = 256


def fingerprints(values: Iterable[bytes], key: bytes) -> bytes:
    """8 bytes of keyed BLAKE2b for each value, joined. `key` is random for each run: nobody can prepare collisions."""
    keyed = blake2b(digest_size=FINGERPRINT_BYTES, key=key)
    joined = bytearray()
    for value in values:
        hashed = keyed.copy()
        hashed.update(value)
        joined += hashed.digest()
    return bytes(joined)


class Fingerprints:
    """Every fingerprint of one sort of value, by its first byte, so that each bucket can be judged by itself."""

    __slots__ = ("_buckets",)

    def __init__(self) -> None:
        self._buckets = [array("Q") for _ in range(_BUCKETS)]

    def add(self, fingerprints: bytes) -> None:
        """Take in concatenated fingerprints."""
        buckets = self._buckets
        for value in array("Q", fingerprints):
            buckets[value & 0xFF].append(value)

    def suspects(self) -> frozenset[bytes]:
        """Fingerprints that came more than once, at most `MAX_SUSPECTS` of them."""
        found: set[int] = set()
        for bucket in self._buckets:
            if len(set(bucket)) == len(bucket):
                continue
            seen: set[int] = set()
            for value in bucket:
                if value in seen and len(found) < MAX_SUSPECTS:
                    found.add(value)
                seen.add(value)
        return frozenset(array("Q", (value,)).tobytes() for value in found)


class Recheck:
    """The second look: whole values of suspected fingerprints, each with the seq where it came first."""

    __slots__ = ("_first", "_key", "_suspects")

    def __init__(self, suspects: frozenset[bytes], key: bytes) -> None:
        self._suspects, self._key = suspects, key
        self._first: dict[bytes, int] = {}

    def earlier(self, value: bytes, seq: int) -> int | None:
        """The seq at which this very value came before, if it did. Values are given in log order."""
        if fingerprints((value,), self._key) not in self._suspects:
            return None
        first = self._first.setdefault(value, seq)
        return None if first == seq else first
