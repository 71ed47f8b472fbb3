"""What no rule finds in the log alone, a witness does: it refuses what does not continue the log that it cosigned.

Some of these attackers hold the log key and the tiles, and no ingest key: they drop, reorder and re-time what others
signed. Nothing in the log is broken then, and `verify` finds it sound unless somebody kept an older checkpoint.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio

from ledger.core import merkle
from ledger.core.errors import WitnessAhead, WitnessConflict
from ledger.core.note import parse_vkey
from ledger.core.quorum import WitnessEntry
from ledger.witness import state
from ledger.witness.client import WitnessClient
from ledger.witness.server import serving
from tests.adversary.attacks import ATTACKS, LOG
from tests.adversary.gallery import Gallery
from tests.adversary.test_attacks import nothing
from tests.adversary.victim import SIZE, Victim
from tests.logbuilder import LogBuilder

ONLY_A_WITNESS = [one for one in ATTACKS.values() if one.by and one.rules == {4}]


@pytest.fixture
def honest_log(gallery: Gallery) -> Victim:
    gallery("honest", nothing)
    return gallery.attacked["honest"]


@pytest.fixture
def attacked(request: pytest.FixtureRequest, gallery: Gallery) -> Victim:
    gallery(request.param.name, request.param.do)
    return gallery.attacked[request.param.name]


def grown_from(log: Victim) -> LogBuilder:
    """A copy that may grow; whoever grows it holds the ingest key, which is more than the attack needs."""
    grown = LogBuilder(log.origin, genesis=False)
    grown.root, grown.ingest, grown.log = log.root, log.ingest, log.log
    grown.entries, grown.leaves = [*log.entries], [*log.leaves]
    return grown


@pytest_asyncio.fixture
async def witness(honest_log: Victim, tmp_path: Path) -> AsyncIterator[tuple[WitnessClient, state.WitnessState]]:
    """A witness that trusts the log's key and has cosigned the honest log, and the log's client of it."""
    honest = honest_log
    vkey = state.create(tmp_path / "witness", "witness.example/w1")
    opened = state.open_state(tmp_path / "witness", time.time)
    opened.add_log(honest.log_vkey)
    async with aiohttp.ClientSession() as session, serving(opened, "127.0.0.1", 0) as (host, port):
        entry = WitnessEntry("w1", parse_vkey(str(vkey), vkey.type), f"http://{host}:{port}")
        client = WitnessClient(session, entry)
        assert await cosigned(client, honest)
        yield client, opened
    opened.close()


async def cosigned(client: WitnessClient, log: LogBuilder) -> bool:
    """Offer the log's newest checkpoint, with the best proof that this log can give."""

    async def prove(old: int, new: int) -> list[bytes]:
        return merkle.consistency_proof(old, new, merkle.subtrees_of(log.leaves[:new]))

    made = log.checkpoint()
    return made._replace(signatures=(await client.cosign(made, prove),)).cosigned_at(client.witness.vkey) is not None


def test_there_are_attacks_with_the_log_key_alone_that_only_a_witness_finds() -> None:
    named = {one.name for one in ONLY_A_WITNESS if one.who == LOG}
    assert named >= {"an_entry_dropped_without_a_trace", "entries_reordered_without_a_trace", "a_stretch_back_dated"}


@pytest.mark.parametrize("attacked", ONLY_A_WITNESS, ids=lambda attack: attack.name, indirect=True)
async def test_a_rewritten_log_gets_no_cosignature_however_far_it_grows(
    attacked: Victim, witness: tuple[WitnessClient, state.WitnessState]
) -> None:
    client, opened = witness
    grown = grown_from(attacked)
    if len(grown.entries) < SIZE:
        with pytest.raises(WitnessAhead) as ahead:
            await cosigned(client, grown)
        assert ahead.value.size == SIZE
        grown.events(SIZE - len(grown.entries))
    same_size = len(grown.entries) == SIZE
    with pytest.raises(WitnessConflict) as conflict:
        await cosigned(client, grown)
    assert conflict.value.evidence.proves_two_heads(attacked.log_vkey) == same_size
    grown.events(300)
    with pytest.raises(WitnessConflict):
        await cosigned(client, grown)
    assert {found.kind for found in opened.evidence()} == {state.UNPROVEN} | ({state.FORK} if same_size else set())
    assert [known.size for known in opened.logs()] == [SIZE]


async def test_the_honest_log_goes_on_being_cosigned(
    honest_log: Victim, witness: tuple[WitnessClient, state.WitnessState]
) -> None:
    client, opened = witness
    grown = grown_from(honest_log)
    grown.events(300)
    assert await cosigned(client, grown)
    assert opened.evidence() == []
