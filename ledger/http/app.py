"""The HTTP application: every route in one table, and the one middleware that turns errors into problems.

Who may call what is auth, what a body may be is body, what an error looks like is problem; the meaning of a call is
the service's. The application neither starts nor stops the service that it is given.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from aiohttp import hdrs, web
from prometheus_client import CollectorRegistry

from ledger.config import Settings
from ledger.http import (
    analytics,
    auditors,
    auth,
    bulk,
    certificates,
    cookies,
    downloads,
    erasures,
    frontends,
    operations,
    policies,
    problem,
    receipts,
    records,
    requests,
)
from ledger.http.callers import Callers
from ledger.http.edge import EDGE, HELD, SHARED_WITH, SITE, DemoKeys, Edge
from ledger.http.limits import DEFAULT_LIMITS, Limits
from ledger.http.metrics import Meters
from ledger.keys.receipts import ReceiptKeys
from ledger.region import RegionFinder
from ledger.service import Service
from ledger.site import Site

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Route(NamedTuple):
    """`pages`: which pages' scripts may call it: `none`, those of the `site`'s origins, or `any`. `once`: a GET that
    changes something, so that nobody may have it looked at with HEAD.

    A part of the path may span several segments (`{n:.+}`); `template` is the path as the contract writes it.
    """

    method: str
    path: str
    handler: Handler
    pages: str = "none"
    once: bool = False

    @property
    def template(self) -> str:
        return self.path.replace(":.+}", "}")


# The router tries the paths under one prefix in this order: the busiest comes first.
ROUTES = (
    Route("POST", "/v1/sites/{site}/events", frontends.post_event, pages="site"),
    Route("GET", "/v1/sites/{site}/consent", frontends.get_consent, pages="site"),
    Route("POST", "/v1/sites/{site}/events:batch", bulk.post_batch),
    Route("POST", "/v1/sites/{site}/check", analytics.check),
    Route("GET", "/v1/sites/{site}/history", analytics.history),
    Route("GET", "/v1/sites/{site}/receipts/{id}.tlog-proof", receipts.get_proof),
    Route("GET", "/v1/sites/{site}/receipts/{id}", receipts.get_receipt),
    Route("GET", "/v1/sites/{site}/policy", policies.get_policy, pages="any"),
    Route("PUT", "/v1/sites/{site}/policy", policies.put_policy),
    Route("GET", "/v1/sites/{site}/policy/diff", policies.get_difference, pages="any"),
    Route("GET", "/v1/sites/{site}/policies", policies.list_policies, pages="any"),
    Route("PUT", "/v1/sites/{site}/documents", policies.put_document),
    Route("POST", "/v1/sites/{site}/cookies:observed", cookies.observed, pages="site"),
    Route("GET", "/v1/sites/{site}/cookies", cookies.inventory),
    Route("POST", "/v1/sites/{site}/cookies:review", cookies.review),
    Route("POST", "/v1/sites/{site}/erasures", erasures.post_erasure),
    Route("GET", "/v1/sites/{site}/erasures/{id}", erasures.get_erasure),
    Route("POST", "/v1/sites/{site}/erasures/{id}/lift", erasures.lift),
    Route("GET", "/v1/sites/{site}/erasures/{id}/certificate", certificates.get_certificate),
    Route("POST", "/v1/sites/{site}/erasures:confirm", certificates.confirm),
    Route("GET", "/v1/sites/{site}/export", downloads.get_export),
    Route("POST", "/v1/sites/{site}/downloads", downloads.post_download),
    Route("GET", "/downloads/{token}", downloads.get_download, once=True),
    Route("POST", "/v1/sites/{site}/requests", requests.post_request, pages="site"),
    Route("GET", "/v1/sites/{site}/requests", requests.list_requests),
    Route("POST", "/v1/sites/{site}/requests:register", requests.register_request),
    Route("GET", "/v1/sites/{site}/requests/{id}", requests.get_request, pages="site"),
    Route("POST", "/v1/sites/{site}/requests/{id}/proof", requests.post_proof, pages="site"),
    Route("POST", "/v1/sites/{site}/requests/{id}/download", requests.post_download, pages="site"),
    Route("POST", "/v1/sites/{site}/requests/{id}/steps", requests.post_step),
    Route("GET", "/documents/{sha256}", policies.get_document, pages="any"),
    Route("GET", "/logs/{site}/checkpoint", auditors.get_checkpoint, pages="any"),
    Route("GET", "/logs/{site}/tile/entries/{n:.+}", auditors.get_entries, pages="any"),
    Route("GET", "/logs/{site}/tile/{level}/{n:.+}", auditors.get_tile, pages="any"),
    Route("GET", "/logs/{site}/proof", auditors.get_proof, pages="any"),
    Route("GET", "/logs/{site}/consistency", auditors.get_consistency, pages="any"),
    Route("GET", "/.well-known/jwks.json", records.get_keys, pages="any"),
    Route("GET", "/healthz", operations.healthz),
    Route("GET", "/readyz", operations.readyz),
    Route("GET", "/metrics", operations.metrics),
    Route("GET", "/openapi.json", operations.openapi, pages="any"),
    Route("GET", "/schemas/person-export.json", operations.person_schema, pages="any"),
    Route("GET", "/schemas/site-document.json", operations.site_document_schema, pages="any"),
    Route("GET", "/verify", operations.verify_page),
    Route("GET", "/", operations.page),
    Route("GET", "/web/config.json", operations.page_config),
    Route("GET", "/web/{name}", operations.asset),
)
_PAGES = {route.template: route.pages for route in ROUTES if route.pages != "none"}


def create_app(
    service: Service,
    settings: Settings,
    registry: CollectorRegistry,
    *,
    limits: Limits = DEFAULT_LIMITS,
    demo_keys: DemoKeys | None = None,
    regions: RegionFinder | None = None,
) -> web.Application:
    """The application around a running service.

    With `settings.demo` the demo page is served; `demo_keys` gives it the sites' publishable keys whenever it loads.
    Without `regions` nobody's region is known.
    """
    # Handlers read bodies themselves, each with its own bound; client_max_size is for the one who forgets.
    app = web.Application(middlewares=[answer], client_max_size=limits.event_body_max_bytes)
    app[EDGE] = Edge(
        service,
        limits,
        Meters(registry),
        Callers(limits.request_address_max, limits.request_address_seconds),
        settings.demo is not None,
        demo_keys,
        regions or RegionFinder(),
        ReceiptKeys(settings, service.reads),
        settings.public_url,
    )
    for route in ROUTES:
        resource = app.router.add_resource(route.path)
        resource.add_route(route.method, route.handler)
        if route.method == hdrs.METH_GET and not route.once:
            resource.add_route(hdrs.METH_HEAD, route.handler)
        if route.pages != "none":
            resource.add_route(hdrs.METH_OPTIONS, preflight)
    return app


@web.middleware
async def answer(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer errors with problems, let the pages that may read the answer read it, and count."""
    started = time.perf_counter()
    try:
        response = await handler(request)
    except Exception as error:
        if request.transport is None:
            raise ConnectionResetError from error  # the client went away: there is nobody to answer
        response = problem.respond_to(error, _template(request))
        if request.writer.output_size > 0:
            raise ConnectionAbortedError from error  # the answer has begun: breaking it off is the only sign left
    resource = request.match_info.route.resource
    if resource is None:
        # Nothing of ours: neither the path nor the method may become a label, they are whatever a client wrote.
        edge = request.app[EDGE]
        edge.meters.request("other", "other", response.status, "", time.perf_counter() - started)
        return response
    template = resource.canonical
    site = request.get(SITE)
    edge = request.app[EDGE]
    pages = _PAGES.get(template)
    if pages is not None and not response.prepared:
        _share(request, response, edge, site, pages)
    name = "" if site is None else site.site
    label = f"{template}?wait=checkpoint" if request.get(HELD) else template
    edge.meters.request(request.method, label, response.status, name, time.perf_counter() - started)
    return response


def _share(request: web.Request, response: web.StreamResponse, edge: Edge, site: Site | None, pages: str) -> None:
    if pages == "any":
        auth.share(response, "*")
        return
    response.headers[hdrs.VARY] = hdrs.ORIGIN
    origin = request.headers.get(hdrs.ORIGIN)
    if origin is None or site is None:
        return
    # A refusal may have come before the origin was looked at; its page may read it all the same.
    if request.get(SHARED_WITH) == origin or auth.origin_allowed(request, edge, site, origin):
        auth.share(response, origin)


async def preflight(request: web.Request) -> web.Response:
    """`OPTIONS`: whether a page's scripts may call (CORS preflight). A browser sends no key with it."""
    resource = request.match_info.route.resource
    assert resource is not None
    allow = ",".join(sorted(route.method for route in resource))
    open_routes = [route for route in ROUTES if route.template == resource.canonical and route.pages != "none"]
    methods = ", ".join(route.method for route in open_routes)
    origin = request.headers.get(hdrs.ORIGIN)
    if origin is None:
        return auth.preflight(None, allow, methods)
    if open_routes[0].pages == "any":
        return auth.preflight("*", allow, methods)
    edge = request.app[EDGE]
    site = await auth.find_site(request, edge)
    if not auth.origin_allowed(request, edge, site, origin):
        raise auth.origin_refused(site, origin)
    return auth.preflight(origin, allow, methods)


def _template(request: web.Request) -> str:
    resource = request.match_info.route.resource
    return "other" if resource is None else resource.canonical
