"""A browser that proves to be its visitor, and stand-ins for what a step of a request calls upon."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ledger.administration import Act, Who
from ledger.core.challenge import message, visitor_of
from ledger.core.ed25519 import SigningKey
from ledger.core.encoding import encode_base64
from ledger.core.errors import NotFound, Unavailable
from ledger.erasing.messages import ErasureInput
from ledger.messages import Receipt
from ledger.site import Site


class Browser:
    """What identity.js does: a key, the visitor id that is its hash, and answers to challenges."""

    def __init__(self) -> None:
        self._key = SigningKey(secrets.token_bytes(32))
        self.visitor = visitor_of(self._key.public)

    def answer(self, challenge: Mapping[str, Any]) -> dict[str, str]:
        """The body of a proof, for a challenge as it was answered in JSON."""
        signed = message(challenge["origin"], challenge["id"], challenge["nonce"])
        return {
            "nonce": challenge["nonce"],
            "publicKey": encode_base64(self._key.public),
            "signature": encode_base64(self._key.sign(signed)),
        }


class Lost(Exception):
    """The process is gone at this moment."""


class Acts:
    """Stands in for the administrative log: acts by their ids, in the order in which they came. `fails`: it is away."""

    def __init__(self) -> None:
        self.recorded: dict[str, Act] = {}
        self.fails = False

    async def record(self, site: str, act: Act, *, act_id: str | None = None) -> Receipt:
        act_id = act_id or f"act {len(self.recorded)}"
        if self.fails:
            raise Unavailable("database-unavailable", "The administrative log is away.")
        assert self.recorded.setdefault(act_id, act) == act, "another act under the same id"
        n = list(self.recorded).index(act_id) + 1
        return Receipt(act_id, site, n, "", "", "", "", "", f"{site}.admin-log:{n}")

    @property
    def words(self) -> list[str]:
        return [act.act for act in self.recorded.values()]


class _Status(NamedTuple):
    state: str
    browsers: Sequence[str] = ()


class Erasures:
    """Stands in for the orders of erasures. `crashes`: the process is gone once the order is made."""

    def __init__(self) -> None:
        self.orders: dict[str, ErasureInput] = {}
        self.done: set[str] = set()
        self.crashes = False
        self.browsers: Sequence[str] = ()

    async def order(self, site: Site, request: ErasureInput, who: Who) -> None:
        assert request.id is not None
        assert self.orders.setdefault(request.id, request) == request
        if self.crashes:
            raise Lost

    async def status(self, site: Site, erasure_id: str) -> _Status:
        if erasure_id not in self.orders:
            raise NotFound("no such order")
        done = "restricted" if self.orders[erasure_id].level == "restrict" else "erased"
        browsers = self.browsers if self.orders[erasure_id].with_browsers else ()
        return _Status(done if erasure_id in self.done else "pending", browsers)
