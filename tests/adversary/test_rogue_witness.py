"""A witness that errs or lies: what it shows, signed by the log's own key, counts for more than what it says."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from ledger.checkpointer.follower import NotSigned
from ledger.checkpointer.site import SiteCheckpointer
from ledger.core.agreement import Disagrees
from ledger.core.note import Checkpoint, parse_checkpoint
from ledger.core.quorum import TrustPolicy
from ledger.store.log import newest_checkpoint
from ledger.store.pool import open_pool
from ledger.store.sites import SiteRow
from tests.adversary.gallery import Copy, Gallery
from tests.adversary.test_attacks import nothing
from tests.adversary.victim import SITE, SIZE, Honest, Victim
from tests.conftest import service_url

WITNESS = "witness rogue"


@pytest.fixture
def honest_log(gallery: Gallery) -> Victim:
    gallery("honest", nothing)
    return gallery.attacked["honest"]


@pytest.fixture
def database_url(copy: Copy) -> Iterator[str]:
    with copy() as admin_url:
        yield service_url(admin_url)


@pytest_asyncio.fixture
async def checkpointer(
    honest: Honest, honest_log: Victim, database_url: str, tmp_path: Path
) -> AsyncIterator[SiteCheckpointer]:
    """One that has signed the whole log."""
    anchors = Path(shutil.copytree(honest.settings.anchors, tmp_path / "anchor"))
    settings = replace(honest.settings, database_url=database_url, anchor_dir=anchors)
    pool = await open_pool(database_url, size=2)
    site = SiteRow(honest_log.site_id, SITE, honest_log.origin)
    made = SiteCheckpointer(settings, pool, site, TrustPolicy())
    while (await made.round()).size < SIZE:
        pass
    newest = await newest_checkpoint(pool, site.site_id)
    assert newest is not None
    assert parse_checkpoint(newest.note).root == honest_log.root_hash(SIZE)
    yield made
    made.close()
    await pool.close()


def says(checkpointer: SiteCheckpointer, monkeypatch: pytest.MonkeyPatch, held: Checkpoint | None) -> None:
    """The witness refuses (422), and shows this as the checkpoint that it cosigned last."""
    refusal = {WITNESS: Disagrees("it does not find the checkpoint consistent")}
    monkeypatch.setattr(checkpointer.cosigning, "said", lambda: refusal)
    monkeypatch.setattr(checkpointer.cosigning, "held", lambda name: held)


async def test_a_witness_that_refuses_what_continues_its_own_checkpoint_is_an_alarm_and_stops_nothing(
    checkpointer: SiteCheckpointer, honest_log: Victim, monkeypatch: pytest.MonkeyPatch
) -> None:
    says(checkpointer, monkeypatch, honest_log.checkpoint(SIZE - 100))
    assert WITNESS in (await checkpointer.round()).alarms


@pytest.mark.parametrize("shown", ["another history that the log key signed", "a checkpoint of a stranger", "nothing"])
async def test_a_witness_that_shows_another_history_or_nothing_at_all_stops_the_signing(
    checkpointer: SiteCheckpointer, honest_log: Victim, monkeypatch: pytest.MonkeyPatch, shown: str
) -> None:
    """It may be right: where it shows nothing, nobody can tell, and a person has to look."""
    signer = honest_log.thief if "stranger" in shown else honest_log.log
    held = honest_log.checkpoint(SIZE - 100, signers=(signer,), root=bytes(32))
    says(checkpointer, monkeypatch, None if shown == "nothing" else held)
    with pytest.raises(NotSigned) as refused:
        await checkpointer.round()
    assert refused.value.reason == f"{WITNESS}-disagrees"
