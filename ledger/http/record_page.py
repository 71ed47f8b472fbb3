"""The page of a record as one file: what records/page writes, in its frame, with the code that verifies its receipt.

It can be saved, printed and opened without a server; its security policy lets nothing else run and opens no connection.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from aiohttp import hdrs

from ledger.http import single_page
from ledger.records import page
from ledger.records.dossier import Dossier


class Page(NamedTuple):
    """The file, and the headers that go with it."""

    body: bytes
    headers: Mapping[str, str]


def of(dossier: Dossier, language: str | None) -> Page:
    """The page in the language asked for, else in the visitor's."""
    written = page.write(dossier, language)
    body = single_page.framed("record.html", written)
    headers: dict[str, str] = {
        hdrs.CONTENT_TYPE: "text/html; charset=utf-8",
        hdrs.CONTENT_LANGUAGE: written.language,
        hdrs.CONTENT_DISPOSITION: f'inline; filename="consent-record-{dossier.receipt.id}.html"',
        "Content-Security-Policy": f"{single_page.policy_of(body)}; frame-ancestors 'none'",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
    }
    return Page(body.encode(), headers)
