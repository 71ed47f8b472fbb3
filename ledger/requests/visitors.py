"""The visitor's own part of a request: a challenge, its answer from the browser that holds the key, and the download.

Nothing is kept before a proof is found right. A proof counts once: the register remembers when the newest challenge
was made that was answered, and takes none that was made then or before.
"""

from __future__ import annotations

import os

from ledger import config
from ledger.core.challenge import (
    PROVABLE_CHARS,
    RANDOM_BYTES,
    Challenge,
    check_proof,
    check_token,
    make_nonce,
    make_token,
)
from ledger.core.encoding import decode_base64, encode_time
from ledger.core.errors import InputRefused, Malformed
from ledger.core.subject_request import DOWNLOADABLE, Details, Kind
from ledger.downloads import Downloads, Link, Wanted, new_download_id
from ledger.requests.messages import RequestChallenge, RequestDownload, RequestInput, RequestProof, RequestProven
from ledger.requests.register import SALT_BYTES, VISITOR, Requests, new_request_id
from ledger.requests.telling import details_of
from ledger.site import Site
from ledger.store import requests as store


class VisitorRequests:
    """What a browser may do with a publishable key. Calls raise `Unavailable` if what they need does not answer."""

    def __init__(self, requests: Requests, downloads: Downloads) -> None:
        self._requests = requests
        self._downloads = downloads
        self._pool = requests.pool
        self._wall_ms = requests.wall_ms

    def challenge(self, site: Site, asked: RequestInput) -> RequestChallenge:
        """What the browser has to sign so that a request is made, or one that was made is shown. Nothing is kept."""
        if (asked.kind is None) == (asked.id is None):
            detail = "Name the kind of request that you make, or the id of one that you made."
            raise InputRefused("invalid-request", detail, "/kind")
        if len(asked.visitor) != PROVABLE_CHARS:
            raise InputRefused(
                "visitor-unprovable",
                "This visitor id is not the hash of a key, so nobody can prove to be the visitor from a browser. Turn "
                "to the site's controller, who can find out otherwise who asks.",
                "/visitor",
            )
        now = self._wall_ms()
        request_id = asked.id or new_request_id()
        bound = Challenge(site.origin, request_id, asked.visitor, asked.kind or "")
        nonce = make_nonce(site.vault.hasher_key, bound, now, os.urandom(RANDOM_BYTES))
        expires = encode_time(now + config.REQUEST_CHALLENGE_SECONDS * 1000)
        return RequestChallenge(request_id, site.origin, nonce, expires)

    async def prove(
        self, site: Site, request_id: str, proof: RequestProof, region: str | None
    ) -> tuple[RequestProven, bool]:
        """Take the answer to a challenge; whether a request was entered by it. `region`: from where it comes."""
        try:
            public, signature = decode_base64(proof.public_key), decode_base64(proof.signature)
        except Malformed as error:
            raise InputRefused("proof-refused", "publicKey and signature are canonical base64.") from error
        key, valid_ms = site.vault.hasher_key, config.REQUEST_CHALLENGE_SECONDS * 1000
        visitor, asked = check_proof(
            key, site.origin, request_id, proof.nonce, public, signature, self._wall_ms(), valid_ms
        )
        subject = site.hasher.visitor(visitor)
        if not asked.about:
            return await self._proven_again(site, request_id, subject, asked.made_ms), False
        kind: Kind = asked.about  # type: ignore[assignment]  # what our own hash covers was one when it was made
        other = await store.open_one(self._pool, site.site_id, subject, kind)
        if other is None:
            if await store.one(self._pool, site.site_id, request_id) is not None:
                raise _spent()
            details = Details(
                site=site.site,
                id=request_id,
                kind=kind,
                received_at=encode_time(asked.made_ms),
                salt=os.urandom(SALT_BYTES).hex(),
                visitor=visitor,
                region=region,
            )
            other = await self._requests.enter(site, details, "prove", VISITOR, asked.made_ms)
            if other == request_id:
                return await self._token(site, request_id), True
        return await self._proven_again(site, other, subject, asked.made_ms), False

    async def _proven_again(self, site: Site, request_id: str, subject: bytes, made_ms: int) -> RequestProven:
        """A proof counts once, and none that is older than another: what was overheard serves nobody."""
        if not await store.prove(self._pool, site.site_id, request_id, subject, made_ms):
            await self._requests.row(site, request_id)
            raise _spent()
        return await self._token(site, request_id)

    async def _token(self, site: Site, request_id: str) -> RequestProven:
        until = self._wall_ms() + config.REQUEST_TOKEN_SECONDS * 1000
        token = make_token(site.vault.hasher_key, site.origin, request_id, until)
        status = await self._requests.status(site, request_id, to_visitor=True)
        return RequestProven(status, token, encode_time(until))

    def check_token(self, site: Site, request_id: str, token: str) -> None:
        """`InputRefused` unless the token lets its bearer read this request now."""
        if not check_token(site.vault.hasher_key, site.origin, request_id, token, self._wall_ms()):
            detail = "The token is of another request, or has expired: answer a new challenge."
            raise InputRefused("request-token-refused", detail)

    async def download(self, site: Site, request_id: str, wanted: RequestDownload) -> Link:
        """The link to what a visitor asked for, once the controller has instructed; that answers the request."""
        row = await self._requests.row(site, request_id)
        details = details_of(site, row)
        late = row.closed_ms is not None and self._wall_ms() - row.closed_ms > config.REQUEST_DOWNLOAD_SECONDS * 1000
        ready = row.kind in DOWNLOADABLE and row.state in ("instructed", "answered") and not late
        if not ready or details is None or details.visitor is None:
            raise InputRefused("nothing-to-download", "There is nothing to download for this request.")
        if row.state == "instructed":
            await self._requests.answer(site, row)
        download_id = new_download_id()
        await self._requests.record_download(site, request_id, download_id)
        what = Wanted(site.site, "person", details.visitor, wanted.format, wanted.language or "", download_id)
        return await self._downloads.link(site, what)


def _spent() -> InputRefused:
    return InputRefused(
        "proof-spent",
        "This proof, or a newer one, was used already. Ask for a challenge about the request's id and sign that.",
    )
