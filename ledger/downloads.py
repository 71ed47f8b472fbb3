"""Download links: a token that fetches one file once, within a minute (D6).

The database holds a hash of the token, and what is downloaded sealed under a key that only the token gives: neither a
dump nor the master secret tells whose data a link was for. What the file holds is made elsewhere, when it is fetched;
nothing of it is prepared or kept here.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from hashlib import sha256
from typing import Literal, NamedTuple

import asyncpg
import msgspec
from msgspec import Struct
from nacl.bindings import crypto_aead_aes256gcm_decrypt, crypto_aead_aes256gcm_encrypt

from ledger import config
from ledger.core.errors import InputRefused, LedgerError, Unavailable
from ledger.secrets import new_event_id
from ledger.site import Site
from ledger.store.ask import ask

log = logging.getLogger(__name__)

TOKEN_BYTES = 32

What = Literal["person", "site"]
Format = Literal["json", "html"]

_LOOKED_UP_BY = b"consent-ledger/v1 download id\n"
_SEALED_UNDER = b"consent-ledger/v1 download key\n"
_NONCE = bytes(12)  # each key seals one message: it comes from a token that is minted for it

_PUT = "select ledger.put_download($1, $2, $3, $4, $5)"
_SPEND = "select ledger.spend_download($1)"
_SWEEP = "select ledger.sweep_downloads()"


class Wanted(Struct, frozen=True, omit_defaults=True):
    """What a link fetches. `visitor`, `format` and `language` are for a person; `id` (a UUID) names the link in the
    administrative log, which is told neither the token nor the visitor."""

    site: str
    what: What
    visitor: str = ""
    format: Format = "json"
    language: str = ""
    id: str = ""


class Link(NamedTuple):
    """A link that was made: the token is told this once."""

    token: str
    expires_ms: int

    def url(self, base_url: str) -> str:
        """`base_url` is the server's address without a slash at its end."""
        return f"{base_url}/downloads/{self.token}"


_encode = msgspec.json.Encoder().encode
_decoder = msgspec.json.Decoder(Wanted)


class Downloads:
    """The links of one ledger. Every call raises `Unavailable` if the database does not answer."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def link(self, site: Site, wanted: Wanted) -> Link:
        """A new link. Whoever calls has found that this caller may have what is in it."""
        token = secrets.token_urlsafe(TOKEN_BYTES)
        if not wanted.id:
            wanted = msgspec.structs.replace(wanted, id=new_download_id())
        looked_up, key = _derived(token)
        sealed = crypto_aead_aes256gcm_encrypt(_encode(wanted), looked_up, _NONCE, key)
        (row,) = await ask(
            self._pool,
            _PUT,
            looked_up,
            site.site_id,
            sealed,
            config.DOWNLOAD_SECONDS,
            config.DOWNLOADS_WAITING_MAX,
        )
        if row[0] is None:
            detail = f"{config.DOWNLOADS_WAITING_MAX:,} links of this site wait to be used: try again in a minute."
            raise Unavailable("too-many-downloads", detail, int(config.DOWNLOAD_SECONDS))
        return Link(token, row[0])

    async def redeem(self, token: str) -> Wanted:
        """What the token fetches; from now on it fetches nothing.

        `InputRefused` for one that is spent, expired or was never made: the same question is asked for all of them, and
        the same answer given.
        """
        looked_up, key = _derived(token)
        (row,) = await ask(self._pool, _SPEND, looked_up)
        if row[0] is None:
            raise InputRefused(
                "download-gone",
                f"A link works once, within {config.DOWNLOAD_SECONDS:g} seconds. This one was used, has expired, or "
                "never was; ask for another.",
            )
        return _decoder.decode(crypto_aead_aes256gcm_decrypt(row[0], looked_up, _NONCE, key))

    async def sweep(self) -> None:
        """Forget expired links; runs until cancelled."""
        while True:
            await asyncio.sleep(config.DOWNLOAD_SWEEP_SECONDS)
            try:
                await ask(self._pool, _SWEEP)
            except LedgerError as error:
                log.warning("expired download links are not swept: %s", error)


def new_download_id() -> str:
    """A link's name in the administrative log."""
    return new_event_id(time.time_ns() // 1_000_000)


def _derived(token: str) -> tuple[bytes, bytes]:
    """By what a token's row is found, and under what it is sealed. Of any text that a URL may hold."""
    data = token.encode("utf-8", "surrogatepass")
    return sha256(_LOOKED_UP_BY + data).digest(), sha256(_SEALED_UNDER + data).digest()
