"""Operations: liveness, readiness, metrics, the contract, the schema, the page that verifies receipts, the demo."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import NamedTuple

from aiohttp import hdrs, web

from ledger.core.errors import InputRefused
from ledger.http import caching, parameters, single_page
from ledger.http.edge import EDGE, JSON, json_response
from ledger.http.metrics import EXPOSITION_TYPE

_CONTRACT = Path(__file__).parent / "openapi.json"
_SITE_DOCUMENT = Path(__file__).parent / "site-document.schema.json"
_PERSON_EXPORT = Path(__file__).parent / "person-export.schema.json"
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ico": "image/x-icon",
    ".woff2": "font/woff2",
    ".json": JSON,
}
_CSP = "Content-Security-Policy"
_PAGE_HEADERS = {
    _CSP: (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    hdrs.CACHE_CONTROL: "no-cache",
}


async def healthz(request: web.Request) -> web.Response:
    """`GET /healthz`: the process is alive. It asks nobody else, so a database that is down restarts no servers."""
    parameters.query(request)
    return json_response({"status": "alive"})


async def readyz(request: web.Request) -> web.Response:
    """`GET /readyz`: 200 if reads and writes can be served (or the one that `probe` names), else 503; says why."""
    probe = parameters.word(parameters.query(request, once=("probe",)), "probe", ("read", "write"))
    readiness = await request.app[EDGE].service.readiness()
    ready = (readiness.read or probe == "write") and (readiness.write or probe == "read")
    return json_response(readiness, 200 if ready else 503, None if ready else {hdrs.RETRY_AFTER: "1"})


async def metrics(request: web.Request) -> web.Response:
    """`GET /metrics`: of this process alone; scrape each one."""
    parameters.query(request)
    exposition = request.app[EDGE].meters.exposition()
    return web.Response(body=exposition, headers={hdrs.CONTENT_TYPE: EXPOSITION_TYPE, hdrs.CACHE_CONTROL: "no-store"})


async def openapi(request: web.Request) -> web.Response:
    """`GET /openapi.json`: this contract."""
    parameters.query(request)
    return web.Response(body=_read(_CONTRACT), content_type=JSON, headers={hdrs.CACHE_CONTROL: "public, max-age=60"})


async def site_document_schema(request: web.Request) -> web.Response:
    """`GET /schemas/site-document.json`: the JSON Schema of site documents, for editors."""
    return _schema(request, _SITE_DOCUMENT)


async def person_schema(request: web.Request) -> web.Response:
    """`GET /schemas/person-export.json`: the JSON Schema of one person's export."""
    return _schema(request, _PERSON_EXPORT)


def _schema(request: web.Request, path: Path) -> web.Response:
    parameters.query(request)
    headers: dict[str, str] = {hdrs.CACHE_CONTROL: "public, max-age=3600", hdrs.CONTENT_TYPE: "application/schema+json"}
    return caching.respond(request, _read(path), headers)


@cache
def _read(path: Path) -> bytes:
    return path.read_bytes()


async def verify_page(request: web.Request) -> web.Response:
    """`GET /verify`: the page on which anybody verifies a receipt without a call to any server, itself one file.

    In a demo it is told the sites' log keys, so that a visitor who has no copy of them can begin.
    """
    parameters.query(request)
    edge = request.app[EDGE]
    bare = single_page.assemble("verify.html")
    known = {site.site: site.log_vkey for site in edge.service.sites.loaded()} if edge.demo else {}
    body = single_page.with_data(bare, known).encode()
    policy = f"{single_page.policy_of(bare)}; frame-ancestors 'none'"
    return caching.respond(request, body, {**_PAGE_HEADERS, _CSP: policy, hdrs.CONTENT_TYPE: _TYPES[".html"]})


# --- the demo page ---------------------------------------------------------------------------------------------------


class _Asset(NamedTuple):
    body: bytes
    media_type: str


@cache
def _assets() -> dict[str, _Asset]:
    """Every file of the page by name, read once: a name that is not among them is not looked for on disk."""
    files = [path for path in single_page.WEB.iterdir() if path.suffix in _TYPES and path.is_file()]
    return {path.name: _Asset(path.read_bytes(), _TYPES[path.suffix]) for path in files}


async def page(request: web.Request) -> web.Response:
    """`GET /`: the page on which a person plays the visitor (demo only)."""
    return _asset(request, "index.html")


async def asset(request: web.Request) -> web.Response:
    """`GET /web/{name}`: a file of that page."""
    return _asset(request, request.match_info["name"])


def _asset(request: web.Request, name: str) -> web.Response:
    found = _assets().get(name) if request.app[EDGE].demo else None
    if found is None:
        raise InputRefused("not-found", "There is no such page here.")
    return caching.respond(request, found.body, {**_PAGE_HEADERS, hdrs.CONTENT_TYPE: found.media_type})


async def page_config(request: web.Request) -> web.Response:
    """`GET /web/config.json`: what the page needs to start: the sites with their publishable keys (demo only)."""
    parameters.query(request)
    edge = request.app[EDGE]
    if not edge.demo:
        raise InputRefused("not-found", "This server runs without the demo page (LEDGER_DEMO=1 serves it).")
    keys = edge.demo_keys() if edge.demo_keys is not None else {}
    sites = {
        site.site: {"publishable": keys[site.site], "logId": site.log_id.hex(), "logVkey": site.log_vkey}
        for site in edge.service.sites.loaded()
        if site.site in keys
    }
    return json_response({"sites": sites})
