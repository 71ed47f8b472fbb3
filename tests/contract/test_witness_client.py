"""A log's side of c2sp.org/tlog-witness: it catches up, tells what to try again, and believes nothing unverified."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from ledger.core.errors import ConfigInvalid, WitnessAhead, WitnessConflict, WitnessUnreachable
from ledger.core.note import TYPE_COSIGNATURE, Signature, VerifierKey, parse_any_checkpoint
from ledger.core.quorum import WitnessEntry
from ledger.core.witnessing import Offer, cosign, origin_path, parse_offer
from ledger.witness.client import WitnessClient
from ledger.witness.server import serving
from ledger.witness.state import create, open_state
from tests.logbuilder import key
from tests.witnesses import ORIGIN, TreeLog

NOW = 1_795_230_000
KEY = key("a witness")
VKEY = VerifierKey("witness.example.org/w1", TYPE_COSIGNATURE, KEY.public)
LOG = TreeLog()
FORKED = TreeLog(fork="another history", shared=3)

Respond = Callable[[Offer], Awaitable[web.StreamResponse] | web.StreamResponse]


class Scripted:
    """A witness that answers what the test says; it keeps what it was offered."""

    def __init__(self) -> None:
        self.offers: list[Offer] = []
        self.respond: Respond = lambda _: web.Response(status=500)
        self.shows: web.Response | None = None
        self.url = ""

    async def add_checkpoint(self, request: web.Request) -> web.StreamResponse:
        offer = parse_offer(await request.read())
        self.offers.append(offer)
        response = self.respond(offer)
        return response if isinstance(response, web.StreamResponse) else await response

    async def checkpoint(self, _: web.Request) -> web.Response:
        return self.shows or web.Response(status=404)


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
async def scripted() -> AsyncIterator[Scripted]:
    witness = Scripted()
    app = web.Application()
    app.router.add_post("/w/add-checkpoint", witness.add_checkpoint)
    app.router.add_get("/w" + origin_path(ORIGIN), witness.checkpoint)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    witness.url = f"http://127.0.0.1:{runner.addresses[0][1]}/w"
    yield witness
    await runner.cleanup()


@pytest.fixture
def client(http: aiohttp.ClientSession, scripted: Scripted) -> WitnessClient:
    return WitnessClient(http, WitnessEntry("w1", VKEY, scripted.url + "/"), clock=lambda: NOW + 0.5, timeout_seconds=5)


@asynccontextmanager
async def real(directory: Path, http: aiohttp.ClientSession) -> AsyncIterator[WitnessClient]:
    """A client of a witness that trusts LOG."""
    create(directory, VKEY.name)
    state = open_state(directory, lambda: NOW)
    state.add_log(LOG.vkey)
    try:
        async with serving(state, "127.0.0.1", 0) as (host, port):
            entry = WitnessEntry("w1", state.vkey, f"http://{host}:{port}")
            yield WitnessClient(http, entry, clock=lambda: NOW)
    finally:
        state.close()


def line(offer: Offer, seconds: int = NOW) -> Signature:
    return cosign(offer.checkpoint, VKEY, KEY, seconds)


def cosigning(offer: Offer) -> web.Response:
    return web.Response(text=line(offer).line())


def at_size(size: int) -> Respond:
    def respond(offer: Offer) -> web.Response:
        if offer.old == size:
            return cosigning(offer)
        return web.Response(status=409, body=b"%d\n" % size, headers={"Content-Type": "text/x.tlog.size"})

    return respond


# --- with a real witness ----------------------------------------------------------------------------------------------


async def test_a_log_that_grows_is_cosigned_at_each_size(tmp_path: Path, http: aiohttp.ClientSession) -> None:
    async with real(tmp_path / "w", http) as client:
        assert client.known_size(ORIGIN) is None
        for size in (1, 2, 3, 3, 8, 600, 600, 601):
            checkpoint = LOG.checkpoint(size)
            signature = await client.cosign(checkpoint, LOG.prove)
            assert checkpoint._replace(signatures=(signature,)).cosigned_at(client.witness.vkey) == NOW
            assert client.known_size(ORIGIN) == size
        assert await client.add_checkpoint(601, LOG.proof(601, 700), LOG.checkpoint(700))


async def test_a_process_that_knows_nothing_of_the_witness_catches_up(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    async with real(tmp_path / "w", http) as client:
        await client.cosign(LOG.checkpoint(300), LOG.prove)
        another = WitnessClient(http, client.witness, clock=lambda: NOW)
        await another.cosign(LOG.checkpoint(600), LOG.prove)
        await client.cosign(LOG.checkpoint(601), LOG.prove)  # it thinks of 300 still


async def test_a_witness_that_knows_more_than_the_log_says_so_with_evidence(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    async with real(tmp_path / "w", http) as client:
        await client.cosign(LOG.checkpoint(9), LOG.prove)
        for asked in (client, WitnessClient(http, client.witness, clock=lambda: NOW)):
            with pytest.raises(WitnessAhead) as caught:
                await asked.cosign(LOG.checkpoint(7), LOG.prove)
            assert caught.value.size == 9
            held = caught.value.evidence.held
            assert held is not None
            assert held.body == LOG.checkpoint(9).body
            assert held.signed_by(LOG.vkey)
            with pytest.raises(WitnessAhead):
                await asked.add_checkpoint(0, [], LOG.checkpoint(7))


@pytest.mark.parametrize("size", [5, 8])
async def test_another_history_is_a_conflict_with_both_checkpoints(
    tmp_path: Path, http: aiohttp.ClientSession, size: int
) -> None:
    async with real(tmp_path / "w", http) as client:
        await client.cosign(LOG.checkpoint(5), LOG.prove)
        for asked in (client, WitnessClient(http, client.witness, clock=lambda: NOW)):
            with pytest.raises(WitnessConflict) as caught:
                await asked.cosign(FORKED.checkpoint(size), FORKED.prove)
            dispute = caught.value.evidence
            assert (dispute.old, dispute.offered, dispute.status) == (
                5,
                FORKED.checkpoint(size),
                409 if size == 5 else 422,
            )
            assert dispute.held is not None
            assert dispute.held.body == LOG.checkpoint(5).body
            assert dispute.proves_two_heads(LOG.vkey) is (size == 5)
        await client.cosign(LOG.checkpoint(8), LOG.prove)  # the true one goes on


# --- with one that answers as the test says ---------------------------------------------------------------------------


async def test_a_witness_that_was_put_back_to_an_older_state_is_caught_up_with(
    scripted: Scripted, client: WitnessClient
) -> None:
    scripted.respond = at_size(0)
    await client.cosign(LOG.checkpoint(300), LOG.prove)
    scripted.respond = at_size(200)
    await client.cosign(LOG.checkpoint(301), LOG.prove)
    assert [offer.old for offer in scripted.offers] == [0, 300, 200]
    assert scripted.offers[-1] == LOG.offer(200, 301)


async def test_a_witness_that_names_a_new_size_each_time_is_not_followed_for_ever(
    scripted: Scripted, client: WitnessClient
) -> None:
    scripted.respond = lambda offer: at_size(offer.old + 1)(offer)
    with pytest.raises(WitnessUnreachable) as caught:
        await client.cosign(LOG.checkpoint(300), LOG.prove)
    assert not caught.value.permanent
    assert len(scripted.offers) < 10


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
async def test_what_may_pass_is_worth_another_try(scripted: Scripted, client: WitnessClient, status: int) -> None:
    scripted.respond = lambda _: web.Response(status=status)
    with pytest.raises(WitnessUnreachable, match=str(status)) as caught:
        await client.cosign(LOG.checkpoint(3), LOG.prove)
    assert not caught.value.permanent


@pytest.mark.parametrize("status", [204, 301, 302, 400, 401, 403, 404, 405, 410, 413])
async def test_what_will_not_pass_needs_a_person(scripted: Scripted, client: WitnessClient, status: int) -> None:
    scripted.respond = lambda _: web.Response(status=status, headers={"Location": "/elsewhere"})
    with pytest.raises(WitnessUnreachable, match=str(status)) as caught:
        await client.cosign(LOG.checkpoint(3), LOG.prove)
    assert caught.value.permanent


def foreign(offer: Offer) -> Signature:
    other = VerifierKey("other.example/w", TYPE_COSIGNATURE, key("other").public)
    return cosign(offer.checkpoint, other, key("other"), NOW)


NONSENSE: dict[str, Respond] = {
    "an empty 200": lambda _: web.Response(),
    "a page": lambda _: web.Response(text="<html>welcome</html>"),
    "no UTF-8": lambda _: web.Response(body=b"\xff\xfe\n"),
    "the whole note": lambda o: web.Response(body=o.checkpoint.encode() + line(o).line().encode()),
    "a line that does not end": lambda o: web.Response(text=line(o).line()[:-1]),
    "another key's line": lambda o: web.Response(text=foreign(o).line()),
    "another key under the witness's name": lambda o: web.Response(text=foreign(o)._replace(name=VKEY.name).line()),
    "a false cosignature": lambda o: web.Response(text=line(o)._replace(value=bytes(72)).line()),
    "a cosignature of another checkpoint": lambda o: web.Response(text=line(LOG.offer(0, 4)).line()),
    "a cosignature without its time": lambda o: web.Response(text=line(o)._replace(value=line(o).value[8:]).line()),
    "a true cosignature and a false one": lambda o: web.Response(
        text=line(o).line() + line(o)._replace(value=bytes(72)).line()
    ),
    "a cosignature of next year": lambda o: web.Response(text=line(o, NOW + 31_536_000).line()),
    "a cosignature of last year": lambda o: web.Response(text=line(o, NOW - 31_536_000).line()),
    "a cosignature of no time at all": lambda o: web.Response(text=line(o, 0).line()),
    "more lines than a note may have": lambda o: web.Response(text=line(o).line() * 101),
    "more bytes than an answer has": lambda o: web.Response(
        text=line(o).line() + foreign(o)._replace(name="n" * 1_000).line() * 90
    ),
    "a 409 without a size": lambda _: web.Response(status=409, text="7\n"),
    "a 409 with a bent size": lambda _: web.Response(
        status=409, body=b"007\n", headers={"Content-Type": "text/x.tlog.size"}
    ),
    "a compressed answer": lambda _: web.Response(body=b"\x1f\x8b", headers={"Content-Encoding": "gzip"}),
}


@pytest.mark.parametrize("what", NONSENSE)
async def test_an_answer_that_cannot_be_verified_is_no_cosignature(
    scripted: Scripted, client: WitnessClient, what: str
) -> None:
    scripted.respond = NONSENSE[what]
    with pytest.raises(WitnessUnreachable) as caught:
        await client.cosign(LOG.checkpoint(3), LOG.prove)
    assert caught.value.permanent
    assert client.known_size(ORIGIN) is None


async def test_lines_of_other_keys_are_ignored_and_the_newest_of_ours_is_taken(
    scripted: Scripted, client: WitnessClient
) -> None:
    scripted.respond = lambda o: web.Response(
        text="".join(
            signature.line() for signature in (foreign(o), line(o, NOW - 9), line(o, NOW - 2), line(o, NOW - 5))
        )
    )
    assert (await client.cosign(LOG.checkpoint(3), LOG.prove)).value[:8] == (NOW - 2).to_bytes(8, "big")


async def test_an_endless_answer_is_cut_off(scripted: Scripted, http: aiohttp.ClientSession) -> None:
    client = WitnessClient(http, WitnessEntry("w1", VKEY, scripted.url), timeout_seconds=0.3)
    stop = asyncio.Event()

    async def drip(_: Offer) -> web.StreamResponse:
        await stop.wait()
        return web.Response()

    scripted.respond = drip
    with pytest.raises(WitnessUnreachable, match="did not answer") as caught:
        await client.cosign(LOG.checkpoint(3), LOG.prove)
    assert not caught.value.permanent
    stop.set()


async def test_a_witness_that_is_not_there_is_worth_another_try(http: aiohttp.ClientSession) -> None:
    client = WitnessClient(http, WitnessEntry("w1", VKEY, "http://127.0.0.1:1"))
    with pytest.raises(WitnessUnreachable, match="w1 cannot be reached") as caught:
        await client.cosign(LOG.checkpoint(3), LOG.prove)
    assert not caught.value.permanent


async def test_a_disagreement_without_anything_shown_is_told_all_the_same(
    scripted: Scripted, client: WitnessClient
) -> None:
    scripted.respond = lambda _: web.Response(status=422)
    with pytest.raises(WitnessConflict) as caught:
        await client.cosign(LOG.checkpoint(3), LOG.prove)
    assert caught.value.evidence.held is None
    assert not caught.value.evidence.proves_two_heads(LOG.vkey)
    scripted.respond = at_size(9)
    for shown in (
        web.Response(text="no checkpoint"),
        web.Response(body=TreeLog("other.example/a.b").checkpoint(9).encode()),
    ):
        scripted.shows = shown
        with pytest.raises(WitnessAhead) as ahead:
            await client.cosign(LOG.checkpoint(3), LOG.prove)
        assert ahead.value.evidence.held is None


async def test_a_409_that_names_the_very_size_it_was_offered_is_a_conflict(
    scripted: Scripted, client: WitnessClient
) -> None:
    """So do witnesses that answer another root with a size; it must not be tried for ever."""
    size_of = {"Content-Type": "text/x.tlog.size"}
    scripted.respond = lambda _: web.Response(status=409, body=b"3\n", headers=size_of)
    scripted.shows = web.Response(body=TreeLog(fork="x").checkpoint(3).encode())
    with pytest.raises(WitnessConflict) as caught:
        await client.cosign(LOG.checkpoint(3), LOG.prove)
    assert caught.value.evidence.proves_two_heads(LOG.vkey)


async def test_what_a_witness_shows_proves_nothing_unless_the_log_signed_it(
    scripted: Scripted, client: WitnessClient
) -> None:
    scripted.respond = lambda _: web.Response(status=409)
    unsigned = TreeLog(fork="x", signer=key("stranger")).checkpoint(3)
    scripted.shows = web.Response(body=unsigned.encode())
    with pytest.raises(WitnessUnreachable):  # a 409 from size 0 that names none
        await client.cosign(LOG.checkpoint(3), LOG.prove)
    scripted.respond = at_size(3)
    await client.cosign(LOG.checkpoint(3), LOG.prove)
    scripted.respond = lambda _: web.Response(status=409)
    with pytest.raises(WitnessConflict) as caught:
        await client.cosign(LOG.checkpoint(3), LOG.prove)
    assert caught.value.evidence.held == parse_any_checkpoint(unsigned.encode())
    assert not caught.value.evidence.proves_two_heads(LOG.vkey)


@pytest.mark.parametrize(
    "url", [None, "", "witness.example", "ftp://witness.example", "https://", "https://w.example/?a=b", "https://w:x/"]
)
async def test_a_url_that_is_none_is_told_when_the_client_is_made(http: aiohttp.ClientSession, url: str | None) -> None:
    with pytest.raises(ConfigInvalid, match="w1"):
        WitnessClient(http, WitnessEntry("w1", VKEY, url))
