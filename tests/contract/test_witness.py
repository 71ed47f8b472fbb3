"""A witness over HTTP: every status code of c2sp.org/tlog-witness, one history whoever asks, and no nonsense.

Codes follow v1.0.0 of the specification. The sentences in the comments are its conditions, in its order.
"""

from __future__ import annotations

import asyncio
import sqlite3
import stat
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from random import shuffle
from typing import NamedTuple

import aiohttp
import metamorphic_log as metamorphic
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tlog_scales.signing import Vkey
from tlog_scales.tlog import Checkpoint as ScalesCheckpoint

from ledger import config
from ledger.core import merkle
from ledger.core.ed25519 import SigningKey
from ledger.core.encoding import encode_base64
from ledger.core.errors import ConfigInvalid, KeyRefused
from ledger.core.note import Checkpoint, Signature, VerifierKey, parse_any_checkpoint, sign_checkpoint
from ledger.core.witnessing import Offer, cosign, origin_path, parse_cosignatures, parse_offer
from ledger.witness.server import serving
from ledger.witness.state import FORK, UNPROVEN, WitnessState, create, open_state
from tests.harness import until
from tests.logbuilder import key
from tests.witnesses import ORIGIN, TreeLog

NAME = "witness.example.org/w1"
NOW = 1_795_230_000.0
HELD = 5


class Clock:
    """Unix seconds, as the test sets them."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


class Reply(NamedTuple):
    status: int
    type: str
    body: bytes
    headers: dict[str, str]


class Witness:
    """A served witness, and what a log does with it."""

    def __init__(
        self, directory: Path, state: WitnessState, clock: Clock, url: str, http: aiohttp.ClientSession
    ) -> None:
        self.directory, self.state, self.clock, self.url, self._http = directory, state, clock, url, http

    async def post(self, body: bytes) -> Reply:
        async with self._http.post(f"{self.url}/add-checkpoint", data=body) as response:
            headers = dict(response.headers)
            return Reply(response.status, headers.get("Content-Type", ""), await response.read(), headers)

    async def get(self, path: str) -> Reply:
        async with self._http.get(self.url + path) as response:
            headers = dict(response.headers)
            return Reply(response.status, headers.get("Content-Type", ""), await response.read(), headers)

    async def offer(self, offer: Offer) -> Reply:
        return await self.post(offer.encode())

    async def cosigned(self, offer: Offer) -> int:
        """Offer what must be cosigned; the time of the cosignature."""
        reply = await self.offer(offer)
        assert reply.status == 200, reply
        return self.verified(offer.checkpoint, reply.body)

    def verified(self, checkpoint: Checkpoint, body: bytes) -> int:
        (line,) = parse_cosignatures(body)
        at = checkpoint._replace(signatures=(line,)).cosigned_at(self.state.vkey)
        assert at is not None
        return at

    async def size(self, origin: str = ORIGIN) -> int:
        """What it shows as cosigned last; 0 for nothing."""
        reply = await self.get(origin_path(origin))
        return parse_any_checkpoint(reply.body).size if reply.status == 200 else 0


@asynccontextmanager
async def witnessing(directory: Path, *logs: VerifierKey) -> AsyncIterator[Witness]:
    clock = Clock()
    if not (directory / "witness.key").exists():
        create(directory, NAME)
    state = open_state(directory, clock)
    try:
        for vkey in logs:
            state.add_log(vkey)
        async with (
            serving(state, "127.0.0.1", 0) as (host, port),
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as http,
        ):
            yield Witness(directory, state, clock, f"http://{host}:{port}", http)
    finally:
        state.close()


LOG = TreeLog()
FORKED = TreeLog(fork="another history", shared=3)
OFFER = LOG.offer(HELD, 8)
TEXT = OFFER.encode()


@pytest.fixture
async def fresh(tmp_path: Path) -> AsyncIterator[Witness]:
    """It trusts LOG and has cosigned nothing."""
    async with witnessing(tmp_path / "w", LOG.vkey) as witness:
        yield witness


@pytest.fixture
async def witness(fresh: Witness) -> Witness:
    """It has cosigned LOG at the size 5."""
    await fresh.cosigned(LOG.offer(0, HELD))
    return fresh


def signed(checkpoint: Checkpoint, *signatures: Signature) -> Checkpoint:
    return checkpoint._replace(signatures=signatures)


def false_line(vkey: VerifierKey) -> Signature:
    return Signature(vkey.name, vkey.key_id, bytes(64))


STRANGER = TreeLog(signer=key("stranger"))
UNKNOWN = TreeLog("ledger.example/other.example.com")
GOOD = LOG.checkpoint(8)
HASH = encode_base64(bytes(32))


def text(old: str = "old 5", proof: str | None = None, note: bytes | None = None) -> bytes:
    lines = "".join(f"{encode_base64(node)}\n" for node in OFFER.proof) if proof is None else proof
    return f"{old}\n{lines}\n".encode() + (GOOD.encode() if note is None else note)


def sized(size: str) -> bytes:
    return GOOD.encode().replace(b"\n8\n", f"\n{size}\n".encode())


MALFORMED = {
    "nothing": b"",
    "a newline": b"\n",
    "no old line": GOOD.encode(),
    "no checkpoint": b"old 5\n\n",
    "an old size with a leading zero": text("old 05"),
    "an old size with a sign": text("old +5"),
    "a negative old size": text("old -5"),
    "an old size of other digits": text("old \u0665"),
    "an old size beyond every log": text("old 99999999999999999999"),
    "no old size": text("old "),
    "two spaces": text("old  5"),
    "another word": text("new 5"),
    "an old line that ends in CR LF": text("old 5\r"),
    "a proof line of 31 bytes": text(proof=encode_base64(bytes(31)) + "\n"),
    "a proof line of 33 bytes": text(proof=encode_base64(bytes(33)) + "\n"),
    "a proof line that is no base64": text(proof="!" * 44 + "\n"),
    "a proof line of URL-safe base64": text(proof="_" * 43 + "=\n"),
    "a proof line without its padding": text(proof=HASH.rstrip("=") + "\n"),
    "a proof line in another encoding of the same bytes": text(proof=HASH[:-2] + "B=\n"),
    "64 proof lines": text(proof=f"{HASH}\n" * 64),
    "no empty line before the checkpoint": TEXT.replace(b"\n\n", b"\n", 1),
    "two empty lines before the checkpoint": TEXT.replace(b"\n\n", b"\n\n\n", 1),
    "a checkpoint of two lines": text(note=b"\n".join(GOOD.encode().split(b"\n")[1:])),
    "a checkpoint without signatures": text(note=GOOD.body + b"\n"),
    "a checkpoint without its gap": text(note=GOOD.body),
    "a checkpoint whose last line does not end": TEXT[:-1],
    "a size with a leading zero": text(note=sized("08")),
    "a negative size": text(note=sized("-8")),
    "a size beyond every log": text(note=sized("9" * 19)),
    "a root of 31 bytes": text(note=GOOD.encode().replace(encode_base64(GOOD.root).encode(), b"A" * 42 + b"==")),
    "a signature line with a hyphen": text(note=GOOD.encode().replace("—".encode(), b"-")),
    "a signature that is no base64": text(note=GOOD.body + f"\n— {ORIGIN} ????\n".encode()),
    "what is no UTF-8": text(note=GOOD.encode().replace(b"ledger", b"led\xff\xfe")),
    "a control character": text(note=GOOD.encode().replace(b"ledger", b"led\x07er")),
    "more signatures than anybody sends": text(note=GOOD.encode() + GOOD.signatures[0].line().encode() * 100),
}


@pytest.mark.parametrize("what", MALFORMED)
async def test_400_for_a_body_that_is_not_of_the_form(witness: Witness, what: str) -> None:
    reply = await witness.post(MALFORMED[what])
    assert (reply.status, reply.type) == (400, "text/plain; charset=utf-8")
    assert reply.body.endswith(b"\n")
    assert await witness.size() == HELD


REFUSED: dict[str, tuple[Offer, int]] = {
    # "If the checkpoint origin is unknown … 404 Not Found"
    "a log that it does not know": (UNKNOWN.offer(0, 8), 404),
    "a log that it does not know, at its own sizes": (UNKNOWN.offer(HELD, 8), 404),
    # "If none of the signatures verify against a trusted public key … 403 Forbidden"
    "a key that it does not trust": (Offer(HELD, OFFER.proof, STRANGER.checkpoint(8)), 403),
    "a false signature under the name and id of a trusted key": (
        OFFER._replace(checkpoint=signed(GOOD, false_line(LOG.vkey))),
        403,
    ),
    "a true signature beside a false one of the same key": (
        OFFER._replace(checkpoint=signed(GOOD, *GOOD.signatures, false_line(LOG.vkey))),
        403,
    ),
    "a signature of another checkpoint": (OFFER._replace(checkpoint=signed(GOOD, *LOG.checkpoint(7).signatures)), 403),
    "a signature over more lines than were sent": (
        OFFER._replace(checkpoint=GOOD._replace(extensions=("an extension",))),
        403,
    ),
    "a false signature, and an old size of another time": (
        Offer(2, (), signed(GOOD, false_line(LOG.vkey))),
        403,
    ),
    # "The old size MUST be equal to or lower than the checkpoint size. Otherwise … 400 Bad Request"
    "an old size above the checkpoint's": (Offer(9, (), GOOD), 400),
    "an old size above the checkpoint's, at the size that it holds": (Offer(HELD, (), LOG.checkpoint(4)), 400),
    # "If the Merkle Consistency Proof doesn't verify … 422 Unprocessable Entity"
    "no proof": (OFFER._replace(proof=()), 422),
    "a proof of one hash less": (OFFER._replace(proof=OFFER.proof[:-1]), 422),
    "a proof of one hash more": (OFFER._replace(proof=(*OFFER.proof, bytes(32))), 422),
    "a proof with one hash changed": (OFFER._replace(proof=(bytes(32), *OFFER.proof[1:])), 422),
    "a proof from another size": (OFFER._replace(proof=tuple(LOG.proof(4, 8))), 422),
    "another history": (FORKED.offer(HELD, 8), 422),
    "a proof where there is nothing to prove": (LOG.offer(HELD, HELD)._replace(proof=(bytes(32),)), 422),
    "another root of the same size, and a proof": (FORKED.offer(HELD, HELD)._replace(proof=(bytes(32),)), 422),
    # "If the old size matches the checkpoint size, the witness MUST check that the root hashes are also identical.
    #  If they don't match … 409 Conflict"
    "another root of the same size": (FORKED.offer(HELD, HELD), 409),
}


@pytest.mark.parametrize("what", REFUSED)
async def test_what_is_refused_has_the_code_of_the_specification_and_changes_nothing(
    witness: Witness, what: str
) -> None:
    offer, status = REFUSED[what]
    reply = await witness.offer(offer)
    assert (reply.status, reply.type) == (status, "text/plain; charset=utf-8"), reply.body
    assert b"\xe2\x80\x94" not in reply.body, "a refusal holds no signature line"
    assert await witness.size() == HELD
    await witness.cosigned(OFFER)


@pytest.mark.parametrize(
    ("old", "new"), [(0, 8), (1, 8), (4, 8), (6, 8), (8, 8), (0, 5), (0, 1), (3, 4), (4, 4), (0, 0)]
)
async def test_409_names_the_size_in_the_form_that_clients_read(witness: Witness, old: int, new: int) -> None:
    reply = await witness.offer(LOG.offer(old, new))
    assert (reply.status, reply.headers["Content-Type"], reply.body) == (409, "text/x.tlog.size", b"5\n")
    assert await witness.size() == HELD


async def test_409_names_zero_before_the_first_cosignature(fresh: Witness) -> None:
    reply = await fresh.offer(LOG.offer(HELD, 8))
    assert (reply.status, reply.headers["Content-Type"], reply.body) == (409, "text/x.tlog.size", b"0\n")


async def test_422_for_a_proof_from_the_empty_log(fresh: Witness) -> None:
    assert (await fresh.offer(LOG.offer(0, 8)._replace(proof=(bytes(32),)))).status == 422
    assert await fresh.size() == 0


async def test_the_empty_log_has_one_root(fresh: Witness) -> None:
    other = sign_checkpoint(Checkpoint(ORIGIN, 0, bytes(32)), LOG.vkey, LOG.signer)
    assert (await fresh.offer(Offer(0, (), other))).status == 422
    assert LOG.head(0).root == merkle.EMPTY_ROOT
    await fresh.cosigned(LOG.offer(0, 0))
    await fresh.cosigned(LOG.offer(0, 0))
    await fresh.cosigned(LOG.offer(0, 3))


@pytest.mark.parametrize("size", [1, 2, 5, 64, 600])
async def test_200_for_the_first_checkpoint_whatever_its_size(fresh: Witness, size: int) -> None:
    assert await fresh.cosigned(LOG.offer(0, size)) == int(NOW)
    assert await fresh.size() == size


async def test_200_for_each_step_of_a_log_that_grows(fresh: Witness) -> None:
    sizes = [0, 1, 2, 3, 4, 7, 8, 9, 100, 256, 257, 600]
    for old, new in pairwise(sizes):
        await fresh.cosigned(LOG.offer(old, new))
    assert await fresh.size() == 600


async def test_200_is_the_cosignature_and_nothing_else(witness: Witness) -> None:
    reply = await witness.offer(OFFER)
    (line,) = parse_cosignatures(reply.body)
    assert reply.type == "text/plain; charset=utf-8"
    assert reply.body == cosign(GOOD, witness.state.vkey, key_of(witness.directory), int(NOW)).line().encode()
    assert (line.name, line.key_id) == (NAME, witness.state.vkey.key_id)


def key_of(directory: Path) -> SigningKey:
    return SigningKey(bytes.fromhex((directory / "witness.key").read_text()))


async def test_200_for_the_same_checkpoint_again_with_the_time_of_now(witness: Witness) -> None:
    assert await witness.cosigned(LOG.offer(HELD, HELD)) == int(NOW)
    witness.clock.now += 600
    assert await witness.cosigned(LOG.offer(HELD, HELD)) == int(NOW) + 600
    shown = parse_any_checkpoint((await witness.get(origin_path(ORIGIN))).body)
    assert shown.cosigned_at(witness.state.vkey) == int(NOW) + 600


async def test_200_whatever_lines_of_other_keys_stand_in_the_note(witness: Witness) -> None:
    other = cosign(GOOD, VerifierKey("other.example/w", 4, key("other").public), key("other"), int(NOW))
    lookalike = Signature(LOG.vkey.name, b"\0\0\0\1", bytes(64))  # the name of a trusted key, another id
    namesake = Signature("someone.example", LOG.vkey.key_id, bytes(64))  # its id, another name
    await witness.cosigned(OFFER._replace(checkpoint=signed(GOOD, lookalike, other, *GOOD.signatures, namesake)))
    shown = parse_any_checkpoint((await witness.get(origin_path(ORIGIN))).body)
    assert [line.name for line in shown.signatures] == [ORIGIN, NAME]


async def test_what_could_not_be_read_again_is_not_cosigned(witness: Witness) -> None:
    doubled = signed(GOOD, *(GOOD.signatures * 100))
    await witness.cosigned(OFFER._replace(checkpoint=doubled))
    long = sign_checkpoint(LOG.head(9)._replace(extensions=("x" * 65_200,)), LOG.vkey, LOG.signer)
    assert (await witness.offer(LOG.offer(8, 9)._replace(checkpoint=long))).status == 400
    await witness.cosigned(LOG.offer(8, 9))


async def test_200_for_a_log_of_another_make_with_extension_lines(tmp_path: Path) -> None:
    """Its origin is no `<prefix>/<site>`: a witness is for every log of C2SP."""
    log = TreeLog("go.sum-database-tree")
    async with witnessing(tmp_path / "w", log.vkey) as witness:
        extended = sign_checkpoint(log.head(7)._replace(extensions=("one", "more — of them")), log.vkey, log.signer)
        await witness.cosigned(Offer(0, (), extended))
        await witness.cosigned(log.offer(7, 9))


async def test_413_405_and_404_are_answered_before_anything_is_believed(witness: Witness) -> None:
    assert (await witness.post(b"old 5\n" + b"a" * 100_000)).status == 413
    reply = await witness.get("/add-checkpoint")
    assert (reply.status, reply.headers["Allow"]) == (405, "POST")
    for path in ("/", "/nothing", "/0/checkpoint", f"/{'0' * 64}/checkpoint", f"/{'g' * 64}/checkpoint"):
        assert (await witness.get(path)).status == 404, path
    async with aiohttp.ClientSession() as http:

        async def endless() -> AsyncIterator[bytes]:
            for _ in range(1_000):
                yield b"a" * 1_000

        async with http.post(f"{witness.url}/add-checkpoint", data=endless()) as response:
            assert response.status == 413


async def test_408_for_a_body_that_does_not_come(witness: Witness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "WITNESS_BODY_TIMEOUT_SECONDS", 0.2)
    reader, writer = await asyncio.open_connection("127.0.0.1", int(witness.url.rpartition(":")[2]))
    writer.write(b"POST /add-checkpoint HTTP/1.1\r\nHost: w\r\nContent-Length: 100\r\n\r\nold 5\n")
    assert (await reader.readline()).startswith(b"HTTP/1.1 408")
    writer.close()


async def test_503_for_more_than_it_can_take_at_one_time(witness: Witness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "WITNESS_MAX_IN_FLIGHT", 0)
    reply = await witness.offer(OFFER)
    assert (reply.status, reply.headers["Retry-After"]) == (503, "1")
    monkeypatch.undo()
    await witness.cosigned(OFFER)


async def test_slow_senders_and_readers_take_no_offers_place(witness: Witness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "WITNESS_MAX_IN_FLIGHT", 2)
    slow = [await asyncio.open_connection("127.0.0.1", int(witness.url.rpartition(":")[2])) for _ in range(40)]
    for _, writer in slow:
        writer.write(b"POST /add-checkpoint HTTP/1.1\r\nHost: w\r\nContent-Length: 100\r\n\r\nold 5\n")
    await witness.cosigned(OFFER)
    monkeypatch.setattr(config, "WITNESS_MAX_BODIES", 40)

    async def is_crowded() -> bool:
        return (await witness.offer(OFFER)).status == 503

    await until(is_crowded)
    for _, writer in slow:
        writer.close()


async def test_503_while_another_process_holds_the_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "WITNESS_BUSY_TIMEOUT_SECONDS", 0.1)
    async with witnessing(tmp_path / "w", LOG.vkey) as witness:
        other = sqlite3.connect(tmp_path / "w" / "witness.sqlite", isolation_level=None)
        other.execute("begin immediate")
        assert (await witness.offer(LOG.offer(0, 5))).status == 503
        other.execute("rollback")
        other.close()
        await witness.cosigned(LOG.offer(0, 5))


# --- one history, whoever asks ----------------------------------------------------------------------------------------


async def test_of_many_offers_at_once_one_wins_and_the_others_learn_the_size(witness: Witness) -> None:
    offers = [LOG.offer(HELD, new) for new in range(6, 36)]
    replies = await asyncio.gather(*(witness.offer(offer) for offer in offers))
    won = [offer for offer, reply in zip(offers, replies, strict=True) if reply.status == 200]
    assert len(won) == 1
    size = won[0].checkpoint.size
    assert {reply.body for reply in replies if reply.status == 409} == {b"%d\n" % size}
    assert {reply.status for reply in replies} == {200, 409}
    assert await witness.size() == size


async def test_of_two_histories_offered_at_once_one_alone_is_ever_cosigned(witness: Witness) -> None:
    history = LOG
    for size in range(HELD + 1, 40):
        rivals = [history, *(TreeLog(fork=f"{size} {i}", shared=size - 1, before=history) for i in range(3))]
        shuffle(rivals)
        replies = await asyncio.gather(*(witness.offer(log.offer(size - 1, size)) for log in rivals))
        assert sorted(reply.status for reply in replies) == [200, 409, 409, 409]
        (history,) = (log for log, reply in zip(rivals, replies, strict=True) if reply.status == 200)
    shown = parse_any_checkpoint((await witness.get(origin_path(ORIGIN))).body)
    assert shown.body == history.head(39).body


async def test_two_witnesses_in_one_directory_are_one(tmp_path: Path) -> None:
    async with witnessing(tmp_path / "w", LOG.vkey) as one, witnessing(tmp_path / "w") as other:
        await one.cosigned(LOG.offer(0, 5))
        assert (await other.offer(FORKED.offer(5, 8))).status == 422
        replies = await asyncio.gather(*(w.offer(LOG.offer(5, 6 + i)) for i in range(10) for w in (one, other)))
        assert [reply.status for reply in replies].count(200) == 1
        assert await one.size() == await other.size()


# --- time -------------------------------------------------------------------------------------------------------------


async def test_times_never_go_backwards_when_the_clock_is_set_back(witness: Witness) -> None:
    witness.clock.now = NOW + 10
    assert await witness.cosigned(LOG.offer(5, 6)) == int(NOW) + 10
    witness.clock.now = NOW - 15
    assert await witness.cosigned(LOG.offer(6, 7)) == int(NOW) + 10
    witness.clock.now = NOW - 3600
    reply = await witness.offer(LOG.offer(7, 8))
    assert (reply.status, reply.headers["Retry-After"]) == (503, "3600")
    assert await witness.size() == 7
    witness.clock.now = NOW + 31
    assert await witness.cosigned(LOG.offer(7, 8)) == int(NOW) + 31


async def test_one_time_is_for_all_logs_and_outlives_the_process(tmp_path: Path) -> None:
    async with witnessing(tmp_path / "w", LOG.vkey, UNKNOWN.vkey) as witness:
        witness.clock.now = NOW + 7200
        await witness.cosigned(LOG.offer(0, 5))
    async with witnessing(tmp_path / "w") as witness:
        assert (await witness.offer(UNKNOWN.offer(0, 5))).status == 503
        witness.clock.now = NOW + 7199
        assert await witness.cosigned(UNKNOWN.offer(0, 5)) == int(NOW) + 7200


# --- keys of logs -----------------------------------------------------------------------------------------------------


async def test_a_log_may_have_two_keys_while_it_changes_them(witness: Witness) -> None:
    later = TreeLog(signer=key("the next log key"))
    assert (await witness.offer(Offer(HELD, OFFER.proof, later.checkpoint(8)))).status == 403
    assert witness.state.add_log(later.vkey) == 2
    both = signed(GOOD, *GOOD.signatures, *later.checkpoint(8).signatures)
    await witness.cosigned(Offer(HELD, OFFER.proof, both))
    shown = parse_any_checkpoint((await witness.get(origin_path(ORIGIN))).body)
    assert shown.signed_by(LOG.vkey)
    assert shown.signed_by(later.vkey)
    await witness.cosigned(LOG.offer(8, 9))  # either alone will do
    await witness.cosigned(later.offer(9, 10))
    assert witness.state.remove_log(str(LOG.vkey))
    assert (await witness.offer(LOG.offer(10, 11))).status == 403
    await witness.cosigned(later.offer(10, 11))


async def test_a_log_that_was_removed_goes_on_where_it_was_when_it_comes_back(witness: Witness) -> None:
    assert witness.state.remove_log(str(LOG.vkey))
    assert not witness.state.remove_log(str(LOG.vkey))
    assert (await witness.offer(OFFER)).status == 404
    witness.state.add_log(LOG.vkey)
    assert (await witness.offer(LOG.offer(0, 8))).body == b"5\n"
    assert (await witness.offer(FORKED.offer(5, 8))).status == 422
    await witness.cosigned(OFFER)


def test_a_witnesss_own_key_is_no_logs_key(tmp_path: Path) -> None:
    vkey = create(tmp_path / "w", NAME)
    state = open_state(tmp_path / "w", Clock())
    with pytest.raises(KeyRefused):
        state.add_log(VerifierKey("log.example", 1, vkey.public))
    state.close()


def test_keys_of_one_log_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    create(tmp_path / "w", NAME)
    state = open_state(tmp_path / "w", Clock())
    for i in range(config.WITNESS_MAX_LOG_KEYS):
        assert state.add_log(TreeLog(signer=key(str(i))).vkey) == i + 1
    assert state.add_log(TreeLog(signer=key("0")).vkey) == config.WITNESS_MAX_LOG_KEYS  # known
    with pytest.raises(ConfigInvalid, match="remove-log"):
        state.add_log(LOG.vkey)
    state.close()


# --- evidence ---------------------------------------------------------------------------------------------------------


async def test_two_heads_of_one_size_are_kept_as_proof_that_the_log_lied(
    witness: Witness, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3):
        assert (await witness.offer(FORKED.offer(HELD, HELD))).status == 409
    (pair,) = witness.state.evidence()
    assert pair.kind == FORK
    held, offered = (parse_any_checkpoint(note.encode()) for note in (pair.held, pair.offered))
    assert (held.size, held.origin) == (offered.size, offered.origin)
    assert held.root != offered.root
    assert held.signed_by(LOG.vkey)
    assert offered.signed_by(LOG.vkey)
    assert [record.levelname for record in caplog.records if "two heads" in record.getMessage()] == ["ERROR"]


async def test_a_head_that_was_not_proven_is_kept_too_and_bounded(
    witness: Witness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config, "WITNESS_EVIDENCE_MAX_ROWS", 3)
    for i in range(6):
        assert (await witness.offer(TreeLog(fork=str(i)).offer(HELD, 8))).status == 422
    assert [pair.kind for pair in witness.state.evidence()] == [UNPROVEN] * 3
    assert (await witness.offer(FORKED.offer(HELD, HELD))).status == 409
    assert [pair.kind for pair in witness.state.evidence()][-1] == FORK  # a flood of the one hides not the other


async def test_what_anybody_can_send_is_no_evidence(witness: Witness) -> None:
    for what, (offer, _) in REFUSED.items():
        if "history" not in what and "root" not in what and "proof" not in what:
            await witness.offer(offer)
    for body in MALFORMED.values():
        await witness.post(body)
    assert witness.state.evidence() == []


# --- what it shows ----------------------------------------------------------------------------------------------------


async def test_monitors_read_what_it_cosigned_last(witness: Witness) -> None:
    path = f"/{sha256(ORIGIN.encode()).hexdigest()}/checkpoint"
    reply = await witness.get(path)
    assert (reply.status, reply.type) == (200, "text/plain; charset=utf-8")
    shown = parse_any_checkpoint(reply.body)
    assert shown.body == LOG.checkpoint(HELD).body
    assert shown.signed_by(LOG.vkey)
    assert shown.cosigned_at(witness.state.vkey) == int(NOW)
    await witness.cosigned(OFFER)
    assert parse_any_checkpoint((await witness.get(path)).body).size == 8


async def test_tools_that_nobody_here_wrote_accept_what_it_shows(witness: Witness) -> None:
    await witness.cosigned(OFFER)
    note = (await witness.get(origin_path(ORIGIN))).body.decode()
    ScalesCheckpoint.from_text(note).verify(Vkey.from_string(str(witness.state.vkey)))
    ScalesCheckpoint.from_text(note).verify(Vkey.from_string(str(LOG.vkey)))
    head = metamorphic.checkpoint_verify(note, [str(LOG.vkey)])
    assert (head.origin, head.size, head.root) == (ORIGIN, 8, GOOD.root)


async def test_its_operator_sees_answers_sizes_and_evidence_and_no_peer(
    witness: Witness, caplog: pytest.LogCaptureFixture
) -> None:
    await witness.offer(OFFER)
    await witness.offer(OFFER)
    await witness.offer(FORKED.offer(8, 8))
    exposition = (await witness.get("/metrics")).body.decode()
    for line in (
        'consent_ledger_witness_answers_total{status="200"} 2.0',
        'consent_ledger_witness_answers_total{status="409"} 2.0',
        f'consent_ledger_witness_size_entries{{log="{ORIGIN}"}} 8.0',
        f'consent_ledger_witness_evidence{{kind="two-heads",log="{ORIGIN}"}} 1.0',
    ):
        assert line in exposition
    assert (await witness.get("/healthz")).status == 200
    reader, writer = await asyncio.open_connection("127.0.0.1", int(witness.url.rpartition(":")[2]))
    writer.write(b"this is no HTTP\r\n\r\n")
    assert b" 400 " in await reader.readline()
    writer.close()
    assert "127.0.0.1" not in exposition + caplog.text


def test_key_and_database_are_their_owners_alone(tmp_path: Path) -> None:
    create(tmp_path / "w", NAME)
    for path in (tmp_path / "w", tmp_path / "w/witness.key", tmp_path / "w/witness.sqlite"):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0
    (tmp_path / "w/witness.key").chmod(0o640)
    with pytest.raises(ConfigInvalid, match="chmod 600"):
        open_state(tmp_path / "w", Clock())


@pytest.mark.parametrize("lost", ["witness.key", "witness.sqlite"])
def test_a_witness_that_lost_its_memory_or_key_does_not_begin_anew(tmp_path: Path, lost: str) -> None:
    create(tmp_path / "w", NAME)
    (tmp_path / "w" / lost).unlink()
    with pytest.raises(ConfigInvalid, match=r"is gone.* make a new witness"):  # not: `init` it, which would refuse
        open_state(tmp_path / "w", Clock())
    with pytest.raises(ConfigInvalid):
        create(tmp_path / "w", NAME)


def test_the_key_of_one_witness_does_not_open_the_memory_of_another(tmp_path: Path) -> None:
    for name in ("a", "b"):
        create(tmp_path / name, NAME)
    (tmp_path / "b/witness.key").write_bytes((tmp_path / "a/witness.key").read_bytes())
    with pytest.raises(ConfigInvalid, match="two witnesses"):
        open_state(tmp_path / "b", Clock())


# --- whatever is sent -------------------------------------------------------------------------------------------------


@st.composite
def mutations(draw: st.DrawFn) -> bytes:
    """A true offer with a few things cut out, doubled, or replaced."""
    body = draw(
        st.sampled_from([TEXT, LOG.offer(0, 8).encode(), LOG.offer(HELD, HELD).encode(), LOG.offer(5, 600).encode()])
    )
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(body)))
        end = min(len(body), start + draw(st.integers(0, 20)))
        filling = draw(
            st.binary(max_size=6) | st.sampled_from([b"\n", b"\n\n", b" ", b"0", b"=", b"A", body[start:end] * 2])
        )
        body = body[:start] + filling + body[end:]
    return body


CODES = {200, 400, 403, 404, 409, 413, 422}


def test_whatever_bytes_are_sent_the_answer_is_one_of_the_specification(tmp_path: Path) -> None:
    async def run(ask: Callable[[Witness], None]) -> None:
        async with witnessing(tmp_path / "w", LOG.vkey) as witness:
            await witness.cosigned(LOG.offer(0, HELD))
            await asyncio.to_thread(ask, witness)

    loop = asyncio.new_event_loop()

    def ask(witness: Witness) -> None:
        @settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
        @given(st.binary(max_size=300) | mutations())
        def examples(body: bytes) -> None:
            reply = asyncio.run_coroutine_threadsafe(witness.post(body), loop).result(60)
            assert reply.status in CODES, reply
            if reply.status == 200:
                checkpoint = parse_offer(body).checkpoint
                witness.verified(checkpoint, reply.body)
                assert checkpoint.body == LOG.head(checkpoint.size).body

        examples()

    try:
        loop.run_until_complete(run(ask))
    finally:
        loop.close()
