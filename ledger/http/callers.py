"""How often one address may do something: a token bucket for each caller, in a table of fixed size.

An address is hashed under a key that this process drew for itself, and forgotten: the table says when each of its
buckets is full again, and of nobody whose it is. Two callers may share one, which makes the bound stricter and never
looser. Each process counts by itself, and anew when it starts. Whose address it is, is region.py's to say.
"""

from __future__ import annotations

import math
import os
import time
from array import array
from collections.abc import Callable
from hashlib import blake2b
from ipaddress import IPv6Address, ip_address

from ledger import config

_V6_HOST_BYTES = 8
"""A subscriber has a /64 at least, so that is one caller."""


class Callers:
    """Buckets of `burst` tokens, into which one comes back every `seconds`."""

    def __init__(self, burst: int, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._slack = (burst - 1) * seconds
        self._seconds = seconds
        self._clock = clock
        self._key = os.urandom(32)
        self._full_at = array("d", bytes(8 * config.CALLERS_BUCKETS))

    def take(self, address: str | None, site: str) -> int:
        """Take a token from the bucket of a caller at a site; 0, or whole seconds until there is one to take.

        All whose address is unknown are one caller.
        """
        now = self._clock()
        bucket = self._bucket(address, site)
        full_at = max(self._full_at[bucket], now)
        wait = full_at - self._slack - now
        if wait > 0:
            return math.ceil(wait)
        self._full_at[bucket] = full_at + self._seconds
        return 0

    def _bucket(self, address: str | None, site: str) -> int:
        caller = b""
        if address is not None:
            parsed = ip_address(address)
            caller = parsed.packed[:_V6_HOST_BYTES] if isinstance(parsed, IPv6Address) else parsed.packed
        told = blake2b(site.encode() + b"\0" + caller, digest_size=8, key=self._key).digest()
        return int.from_bytes(told, "big") % len(self._full_at)
