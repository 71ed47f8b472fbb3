"""The page of a record: what records/page writes, in a file of its own that verifies itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from ledger.core.errors import InputRefused
from ledger.records.dossier import Dossier


class Page(NamedTuple):
    body: bytes
    headers: Mapping[str, str]


def of(dossier: Dossier, language: str | None) -> Page:
    raise InputRefused("not-found", "There is no page yet.")
