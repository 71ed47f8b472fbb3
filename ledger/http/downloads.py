"""Exports, and the links that fetch them once: one person's data, and everything of a site.

A body is written while it is sent, piece by piece, and nothing of it is put aside; a client that does not take it is
cut off. The path of a link holds its token: no log, metric or answer of ours repeats it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import NamedTuple, get_args

from aiohttp import hdrs, web

from ledger import config, person, whole
from ledger.administration import Who
from ledger.core.encoding import encode_time
from ledger.core.errors import InputRefused
from ledger.downloads import Format, Link, Wanted, new_download_id
from ledger.http import auth, body, parameters, person_page
from ledger.http.acting import acting_of
from ledger.http.edge import EDGE, JSON, PRIVATE, Edge, json_response
from ledger.messages import Download, DownloadInput
from ledger.site import Site

_HEADERS = {
    **PRIVATE,
    hdrs.CACHE_CONTROL: "private, no-store, max-age=0",
    "Pragma": "no-cache",
    "Referrer-Policy": "no-referrer",
    "X-Robots-Tag": "noindex, nofollow",
    "Content-Security-Policy": "sandbox; default-src 'none'",
}


class File(NamedTuple):
    """What is sent: a name to keep it under, its type, and its bytes as they are made."""

    name: str
    media_type: str
    pieces: AsyncGenerator[bytes, None]


async def get_export(request: web.Request) -> web.StreamResponse:
    """`GET /v1/sites/{site}/export`: everything that is held of one visitor."""
    edge = request.app[EDGE]
    admitted = await auth.admit(request, edge, auth.EXPORT_PERSON)
    query = parameters.query(request, once=("format", "language"))
    form, language = parameters.word(query, "format", get_args(Format)) or "json", parameters.language(query)
    file = await _person(edge, admitted.site, parameters.visitor(request), form, language)
    if request.method != hdrs.METH_HEAD:
        await acting_of(request, edge, admitted)("export.made", {"kind": "person", "target": "stream"})
    return await _send(request, file)


async def post_download(request: web.Request) -> web.Response:
    """`POST /v1/sites/{site}/downloads`: a link that fetches an export once."""
    edge = request.app[EDGE]
    admitted = await auth.admit(request, edge, auth.EXPORT)
    parameters.query(request)
    told = await body.read_message(request, DownloadInput, config.DOWNLOAD_BODY_MAX_BYTES, "invalid-download")
    wanted = _wanted(admitted.site, told)
    if wanted.what == "person":
        await person.look_up(edge.service, admitted.site, wanted.visitor)  # whoever was erased has no export
    details = {"kind": wanted.what, "target": "download", "download": wanted.id}
    await acting_of(request, edge, admitted)("export.made", details)
    return told_of(request, await edge.service.downloads.link(admitted.site, wanted))


def _wanted(site: Site, told: DownloadInput) -> Wanted:
    if (told.what == "person") != (told.visitor is not None):
        detail = "A person is told by its visitor id; a site has no visitor."
        raise InputRefused("invalid-download", detail, "/visitor")
    return Wanted(site.site, told.what, told.visitor or "", told.format, told.language or "", new_download_id())


def told_of(request: web.Request, link: Link) -> web.Response:
    """The answer that tells of a link; nobody is told it again."""
    url = link.url(request.app[EDGE].base_url(request))
    return json_response(Download(url, encode_time(link.expires_ms)), 201)


async def get_download(request: web.Request) -> web.StreamResponse:
    """`GET /downloads/{token}`: the file, once. What cannot begin now takes the link with it."""
    edge = request.app[EDGE]
    parameters.query(request)
    wanted = await edge.service.downloads.redeem(request.match_info["token"])
    site = await edge.service.site(wanted.site)
    if wanted.what == "site":
        assert edge.receipt_keys is not None
        pieces = whole.pieces(edge.service, edge.receipt_keys, site)
        file = File(f"{site.site}.tar", "application/x-tar", pieces)
    else:
        file = await _person(edge, site, wanted.visitor, wanted.format, wanted.language or None)
    # Whoever fetches one person's data is that person, as a rule, and no visitor's address is kept anywhere.
    whole_site = wanted.what == "site"
    address = edge.address_of(request) if whole_site else None
    who = Who("download link", "ledger", address=address)
    details = {"kind": wanted.what, "target": "download", "download": wanted.id}
    await edge.service.administration.record(site.site, who.act("export.downloaded", details))
    return await _send(request, file)


async def _person(edge: Edge, site: Site, visitor: str, form: str, language: str | None) -> File:
    found = await person.look_up(edge.service, site, visitor)
    if form == "html":
        return File(f"{site.site}-person.html", person_page.MEDIA_TYPE, person_page.pieces(found, language))
    return File(f"{site.site}-person.json", JSON, person.written(found))


async def _send(request: web.Request, file: File) -> web.StreamResponse:
    """Send it as it is made. What goes wrong on the way breaks the answer off: its reader sees that there is no end."""
    headers: Mapping[str, str] = {
        **_HEADERS,
        hdrs.CONTENT_TYPE: file.media_type,
        hdrs.CONTENT_DISPOSITION: f'attachment; filename="{file.name}"',
    }
    response = web.StreamResponse(headers=headers)
    async with aclosing(file.pieces) as pieces:
        first = await anext(pieces)  # what fails before it is a refusal like any other
        await response.prepare(request)
        if request.method == hdrs.METH_HEAD:
            return response
        await _write(request, response, first)
        async for piece in pieces:
            await _write(request, response, piece)
    await response.write_eof()
    return response


async def _write(request: web.Request, response: web.StreamResponse, piece: bytes) -> None:
    try:
        async with asyncio.timeout(request.app[EDGE].limits.write_timeout_seconds):
            await response.write(piece)
    except TimeoutError:
        if request.transport is not None:
            request.transport.abort()  # it takes nothing: an orderly close would wait for it, too
        raise ConnectionResetError("the client does not take what it asked for") from None
