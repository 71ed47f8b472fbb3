"""What every handler of the edge has at hand: the service, the bounds, the meters, who finds regions, whether this is a
demo."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
from aiohttp import hdrs, web

from ledger.http.callers import Callers
from ledger.http.limits import Limits
from ledger.http.metrics import Meters
from ledger.keys.receipts import ReceiptKeys
from ledger.region import RegionFinder
from ledger.service import Service
from ledger.site import Site

JSON = "application/json"

PRIVATE: Mapping[str, str] = {hdrs.CACHE_CONTROL: "private, no-store", "X-Content-Type-Options": "nosniff"}
"""Headers of a file about one person."""

DemoKeys = Callable[[], Mapping[str, str]]
"""Gives the publishable key of each site; asked whenever the demo page loads, as keys come and go."""


@dataclass(frozen=True)
class Edge:
    """`demo`: whether the page is served that lets a person play the visitor; `demo_keys` gives it its keys."""

    service: Service
    limits: Limits
    meters: Meters
    requesters: Callers
    """Who begins requests of people."""
    demo: bool = False
    demo_keys: DemoKeys | None = None
    regions: RegionFinder = field(default_factory=RegionFinder)
    receipt_keys: ReceiptKeys | None = None
    public_url: str = ""

    def region_of(self, request: web.Request) -> str | None:
        """From where a request comes: for callers with publishable keys, whose own word on it does not count."""
        return self.regions.find(request.remote, request.headers)

    def address_of(self, request: web.Request) -> str | None:
        """Who sent a request, past trusted proxies. A visitor's address is neither kept nor told to anybody."""
        return self.regions.address(request.remote, request.headers)

    def base_url(self, request: web.Request) -> str:
        """The server's address for others, without a slash at its end."""
        return self.public_url or str(request.url.origin())


EDGE: web.AppKey[Edge] = web.AppKey("edge", Edge)
SITE: web.RequestKey[Site] = web.RequestKey("site", Site)
"""The site a request is about, once it was found."""
SHARED_WITH: web.RequestKey[str] = web.RequestKey("shared_with", str)
"""The page's origin, once it was found to be allowed."""
HELD: web.RequestKey[bool] = web.RequestKey("held", bool)
"""Set where the answer was held for a checkpoint: its time says nothing of the time that recording takes."""

encode = msgspec.json.Encoder().encode


def json_response(message: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """A message that is nobody else's to keep: never cached."""
    response = web.Response(body=encode(message), status=status, headers=headers, content_type=JSON)
    response.headers[hdrs.CACHE_CONTROL] = "no-store"
    return response


def created(message: Any, headers: Mapping[str, str] | None = None, *, replayed: bool) -> web.Response:
    """The answer to a call that puts something on record: 201, or 200 where a call before it did already."""
    if not replayed:
        return json_response(message, 201, headers)
    return json_response(message, 200, {**(headers or {}), "Idempotent-Replayed": "true"})
