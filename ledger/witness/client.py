"""A log's side of c2sp.org/tlog-witness: offer a checkpoint to one witness, and believe only what can be verified.

When to try again is the caller's to decide: `WitnessUnreachable` says whether that can help. A witness that is behind
(409) is caught up with at once. Where it disagrees, what it holds is fetched too and handed over as evidence.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

import aiohttp
from yarl import URL

from ledger import config
from ledger.core.errors import BadSignature, ConfigInvalid, Malformed, WitnessAhead, WitnessConflict, WitnessUnreachable
from ledger.core.note import MAX_CHECKPOINT_BYTES, Checkpoint, Signature, parse_any_checkpoint
from ledger.core.quorum import WitnessEntry
from ledger.core.witnessing import (
    ADD_CHECKPOINT,
    SIZE_TYPE,
    Dispute,
    Offer,
    origin_path,
    parse_cosignatures,
    parse_size,
)

Prove = Callable[[int, int], Awaitable[list[bytes]]]
"""(old size, new size) -> the consistency proof between them."""

_TRANSIENT = frozenset({408, 425, 429})


class _Answer(NamedTuple):
    status: int
    type: str
    body: bytes


class WitnessClient:
    """Talks to one witness. One for all logs of a process: it remembers by origin how far the witness is."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        witness: WitnessEntry,
        *,
        clock: Callable[[], float] = time.time,
        timeout_seconds: float = config.WITNESS_TIMEOUT_SECONDS,
    ) -> None:
        if witness.url is None:
            raise ConfigInvalid(f"the trust policy gives no URL for the witness {witness.name}")
        try:
            url = URL(witness.url.rstrip("/"))
        except ValueError as error:
            raise ConfigInvalid(f"the URL of the witness {witness.name} is none") from error
        if url.scheme not in ("http", "https") or not url.host or url.query_string or url.fragment:
            raise ConfigInvalid(f"the URL of the witness {witness.name} is http(s)://host/path without a query")
        self.witness = witness
        self._session = session
        self._url = url
        self._clock = clock
        self._timeout_seconds = timeout_seconds
        self._sizes: dict[str, int] = {}

    def known_size(self, origin: str) -> int | None:
        """The size that the witness is known to have cosigned last; None before it was asked."""
        return self._sizes.get(origin)

    async def cosign(self, checkpoint: Checkpoint, prove: Prove) -> Signature:
        """The witness's verified cosignature, from whatever size it is at.

        `WitnessAhead` and `WitnessConflict` carry the evidence; `WitnessUnreachable` covers everything else.
        """
        old = min(self._sizes.get(checkpoint.origin, 0), checkpoint.size)
        for _ in range(config.WITNESS_CATCH_UP_ATTEMPTS):
            proof = await prove(old, checkpoint.size) if 0 < old < checkpoint.size else []
            answer, offer = await self._offer(old, proof, checkpoint)
            told = _told_size(answer)
            if told is None or told == old:
                return await self._settle(answer, offer)
            self._sizes[checkpoint.origin] = old = told
            if told > checkpoint.size:
                raise WitnessAhead(told, await self._dispute(answer, offer))
        raise WitnessUnreachable(f"{self.witness.name} names another size at each attempt; others use it just now")

    async def add_checkpoint(self, old: int, proof: Sequence[bytes], checkpoint: Checkpoint) -> Signature:
        """One exchange, from a size that the caller believes in; errors as above, and no catching up."""
        answer, offer = await self._offer(old, proof, checkpoint)
        told = _told_size(answer)
        if told is not None and told != old:
            self._sizes[checkpoint.origin] = told
            if told > checkpoint.size:
                raise WitnessAhead(told, await self._dispute(answer, offer))
            raise WitnessUnreachable(f"{self.witness.name} is at the size {told}, not at {old}")
        return await self._settle(answer, offer)

    async def latest(self, origin: str) -> Checkpoint | None:
        """The checkpoint that the witness shows as its last one for a log, unverified; None where it shows none.

        Read from the submission prefix: a policy has one URL for both.
        """
        answer = await self._request("GET", origin_path(origin), None, MAX_CHECKPOINT_BYTES)
        if answer.status == 404:
            return None
        if answer.status != 200:
            raise self._failure(answer)
        try:
            checkpoint = parse_any_checkpoint(answer.body)
        except Malformed as error:
            raise self._nonsense(f"its checkpoint: {error}") from error
        if checkpoint.origin != origin:
            raise self._nonsense("it shows the checkpoint of another log")
        return checkpoint

    async def _offer(self, old: int, proof: Sequence[bytes], checkpoint: Checkpoint) -> tuple[_Answer, Offer]:
        offer = Offer(old, tuple(proof), checkpoint)
        answer = await self._request("POST", ADD_CHECKPOINT, offer.encode(), config.WITNESS_ANSWER_MAX_BYTES)
        return answer, offer

    async def _settle(self, answer: _Answer, offer: Offer) -> Signature:
        if answer.status == 200:
            signature = self._verified(answer.body, offer.checkpoint)
            self._sizes[offer.checkpoint.origin] = offer.checkpoint.size
            return signature
        if answer.status == 422 or (answer.status == 409 and offer.old == offer.checkpoint.size):
            raise WitnessConflict(await self._dispute(answer, offer))
        raise self._failure(answer)

    def _verified(self, body: bytes, checkpoint: Checkpoint) -> Signature:
        """The newest line of this witness in the answer; lines of other keys are ignored."""
        vkey = self.witness.vkey
        try:
            lines = parse_cosignatures(body)
            ours = [line for line in lines if (line.name, line.key_id) == (vkey.name, vkey.key_id)]
            at = checkpoint._replace(signatures=tuple(ours)).cosigned_at(vkey)
        except (Malformed, BadSignature) as error:
            raise self._nonsense(str(error)) from error
        if at is None:
            raise self._nonsense("it did not sign with the key that the trust policy has for it")
        if abs(at - self._clock()) > config.WITNESS_CLOCK_SKEW_SECONDS:
            raise self._nonsense(f"its clock is more than {config.WITNESS_CLOCK_SKEW_SECONDS} s from ours")
        return max(ours, key=lambda line: line.value[:8])

    async def _dispute(self, answer: _Answer, offer: Offer) -> Dispute:
        """Evidence, with what the witness holds where it shows it."""
        held = None
        with contextlib.suppress(WitnessUnreachable):  # not every witness shows it
            held = await self.latest(offer.checkpoint.origin)
        return Dispute(self.witness.name, answer.status, offer.old, offer.checkpoint, held)

    async def _request(self, method: str, path: str, body: bytes | None, max_bytes: int) -> _Answer:
        try:
            async with (
                asyncio.timeout(self._timeout_seconds),
                self._session.request(
                    method,
                    URL(f"{self._url}{path}", encoded=True),
                    data=body,
                    headers={"Accept-Encoding": "identity", "Content-Type": "text/plain; charset=utf-8"},
                    allow_redirects=False,
                    auto_decompress=False,
                    timeout=aiohttp.ClientTimeout(total=None),  # the whole exchange has one, above
                ) as response,
            ):
                received = bytearray()
                async for chunk in response.content.iter_any():
                    received += chunk
                    if len(received) > max_bytes:
                        raise self._nonsense(f"its answer is longer than {max_bytes} bytes")
                return _Answer(response.status, response.headers.get("Content-Type", ""), bytes(received))
        except TimeoutError as error:
            raise WitnessUnreachable(f"{self.witness.name} did not answer in {self._timeout_seconds:g} s") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise WitnessUnreachable(f"{self.witness.name} cannot be reached ({type(error).__name__})") from error

    def _failure(self, answer: _Answer) -> WitnessUnreachable:
        reasons = {
            400: "it takes our request for malformed",
            403: "it does not trust the key that signed this checkpoint: `witness add-log` there",
            409: "and names no size",
            404: "it does not know this log: `witness add-log` there, or the URL is wrong",
            413: "it takes our request for too large",
        }
        permanent = answer.status < 500 and answer.status not in _TRANSIENT
        reason = reasons.get(answer.status, "")
        detail = f"{self.witness.name} answered {answer.status}" + (f": {reason}" if reason else "")
        return WitnessUnreachable(detail, permanent=permanent)

    def _nonsense(self, detail: str) -> WitnessUnreachable:
        return WitnessUnreachable(f"{self.witness.name} gives no usable answer: {detail}", permanent=True)


def _told_size(answer: _Answer) -> int | None:
    """The size in a 409 of the form that the specification demands."""
    if answer.status != 409 or answer.type.partition(";")[0].strip().lower() != SIZE_TYPE:
        return None
    try:
        return parse_size(answer.body)
    except Malformed:
        return None
