"""The checkpointer and its witnesses: who is slow delays nobody, who knows more or disagrees stops the signing."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import pytest_asyncio

from ledger import config
from ledger.checkpointer.follower import NotSigned
from ledger.checkpointer.site import SiteCheckpointer
from ledger.config import Settings
from ledger.core.errors import WitnessAhead, WitnessConflict, WitnessUnreachable
from ledger.core.merkle import check_consistency
from ledger.core.note import Checkpoint, Signature, VerifierKey, cosignature_message, parse_checkpoint
from ledger.core.quorum import TrustPolicy, WitnessEntry, parse_policy
from ledger.core.witnessing import Dispute
from ledger.witness.client import Prove
from tests.conftest import Database
from tests.fault.checkpoints import Site, founded_site
from tests.harness import until
from tests.logbuilder import key


class Witness:
    """Speaks as a witness's client does, of a witness that does what it is told."""

    def __init__(self, name: str) -> None:
        self.vkey = VerifierKey(f"witness.example/{name}", 4, key(name).public)
        self.witness = WitnessEntry(name, self.vkey, "http://witness.invalid/")
        self.held: Checkpoint | None = None
        self.trouble: Exception | None = None
        self.silent = False
        self.asked = 0

    async def cosign(self, checkpoint: Checkpoint, prove: Prove) -> Signature:
        self.asked += 1
        if self.silent:
            await asyncio.sleep(3600)
        if self.trouble is not None:
            raise self.trouble
        held = self.held
        if held is not None:
            if held.size > checkpoint.size:
                raise WitnessAhead(held.size, Dispute(self.witness.name, 409, 0, checkpoint, held))
            proof = await prove(held.size, checkpoint.size) if held.size < checkpoint.size else []
            check_consistency(held.size, checkpoint.size, proof, held.root, checkpoint.root)
        self.held = checkpoint
        seconds = int(time.time())
        signature = key(self.witness.name).sign(cosignature_message(checkpoint.body, seconds))
        return Signature(self.vkey.name, self.vkey.key_id, seconds.to_bytes(8, "big") + signature)


def policy_of(quorum: str, *witnesses: Witness) -> TrustPolicy:
    lines = [f"witness {w.witness.name} {w.vkey} {w.witness.url}" for w in witnesses]
    names = " ".join(w.witness.name for w in witnesses)
    return parse_policy("\n".join([*lines, f"group all {quorum} {names}", "quorum all", ""]))


@pytest_asyncio.fixture
async def site(settings: Settings) -> Site:
    return await founded_site(settings)


@asynccontextmanager
async def running(site: Site, quorum: str, *witnesses: Witness) -> AsyncIterator[SiteCheckpointer]:
    """A checkpointer whose witnesses are at work."""
    policy = policy_of(quorum, *witnesses)
    async with site.checkpointer(policy=policy, clients=witnesses) as checkpointer:  # type: ignore[arg-type]
        task = asyncio.create_task(checkpointer.cosigning.run())
        try:
            yield checkpointer
        finally:
            task.cancel()
            await asyncio.wait([task])


async def cosigned(site: Site) -> dict[int, bool]:
    async with site.pool() as pool:
        return dict(await pool.fetch("select size, cosigned from ledger.checkpoint"))


async def note_of(site: Site, size: int) -> Checkpoint:
    async with site.pool() as pool:
        return parse_checkpoint(await pool.fetchval("select note from ledger.checkpoint where size = $1", size))


async def is_cosigned(site: Site, size: int) -> bool:
    return (await cosigned(site)).get(size, False)


async def test_cosignatures_are_merged_as_they_come_and_a_quorum_is_said(site: Site) -> None:
    one, two, three = witnesses = [Witness(f"w{i}") for i in range(3)]
    two.trouble = three.trouble = WitnessUnreachable("away")
    async with running(site, "2", *witnesses) as checkpointer:
        await site.grow(300)
        await checkpointer.round()

        async def has_one() -> bool:
            return (await note_of(site, 302)).cosigned_at(one.vkey) is not None

        await until(has_one)
        assert not await is_cosigned(site, 302)
        two.trouble = None
        await until(lambda: is_cosigned(site, 302))
        note = await note_of(site, 302)
        assert policy_of("2", *witnesses).accepts(note)
        assert len(note.signatures) == 3
        assert note.cosigned_at(three.vkey) is None


async def test_a_witness_that_never_answers_delays_nobody(site: Site) -> None:
    good, silent = Witness("good"), Witness("silent")
    async with running(site, "any", good, silent) as checkpointer:
        await checkpointer.round()  # asks everybody once, before anything new is signed
        silent.silent = True
        for size in (3, 4, 5):
            await site.grow(1)
            assert (await checkpointer.round()).size == size
            await until(lambda size=size: is_cosigned(site, size))  # type: ignore[misc]
    assert silent.asked


async def test_a_quiet_log_is_cosigned_again_as_a_sign_of_life(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "CHECKPOINT_REFRESH_SECONDS", 1.5)
    monkeypatch.setattr(config, "CHECKPOINT_LOOK_SECONDS", 0.05)
    witness = Witness("w")
    async with running(site, "any", witness) as checkpointer:
        await checkpointer.round()
        await until(lambda: is_cosigned(site, 2))
        first = (await note_of(site, 2)).cosigned_at(witness.vkey)
        assert first is not None

        async def is_newer() -> bool:
            note = await note_of(site, 2)
            assert len(note.signatures) == 2, "in place of the older line"
            return (note.cosigned_at(witness.vkey) or 0) > first

        await until(is_newer)


async def test_a_witness_that_knows_a_longer_log_stops_a_process_before_its_first_signature(site: Site) -> None:
    witness = Witness("w")
    await site.grow(5)
    await site.round()
    longer = (await site.signed())[-1]
    witness.held = longer._replace(size=longer.size + 10)
    await site.grow(1)
    async with running(site, "any", witness) as checkpointer:
        for _ in range(2):
            with pytest.raises(NotSigned) as refused:
                await checkpointer.round()
            assert refused.value.reason == "witness w-ahead"
        assert [c.size for c in await site.signed()][-1] == longer.size
        evidence = list((site.settings.anchors / "evidence").iterdir())
        assert len(evidence) == 1
        assert longer.encode() in evidence[0].read_bytes()


async def test_a_witness_is_asked_before_the_second_checkpoint_of_a_log_that_every_other_place_forgot(
    site: Site, database: Database
) -> None:
    witness = Witness("w")
    await site.grow(5)
    await site.round()
    longer = (await site.signed())[-1]
    witness.held = longer._replace(size=longer.size + 10)
    await site.execute("truncate ledger.checkpoint, ledger.checkpointer", admin_url=database.admin_url)
    shutil.rmtree(site.settings.anchors)
    async with site.checkpointer(policy=policy_of("any", witness), clients=[witness]) as checkpointer:  # type: ignore[list-item]
        assert (await checkpointer.round()).size == 1, "which is the same in every history of this log"
        with pytest.raises(NotSigned) as refused:
            await checkpointer.round()
    assert refused.value.reason == "witness w-ahead"


async def test_a_witness_that_only_says_so_counts_for_as_long_as_the_log_is_shorter(site: Site) -> None:
    witness = Witness("w")
    await site.round()
    (*_, last) = await site.signed()
    witness.trouble = WitnessAhead(6, Dispute("w", 409, 0, last, None))
    async with running(site, "any", witness) as checkpointer:
        with pytest.raises(NotSigned) as refused:
            await checkpointer.round()
        assert refused.value.reason == "witness w-ahead"
        await site.grow(10)  # what was lost is back
        witness.trouble = None
        assert (await checkpointer.round()).signed


async def test_a_witness_in_conflict_stops_the_signing_until_it_agrees(site: Site) -> None:
    witness = Witness("w")
    async with running(site, "any", witness) as checkpointer:
        await checkpointer.round()
        await until(lambda: is_cosigned(site, 2))
        (*_, last) = await site.signed()
        witness.trouble = WitnessConflict(Dispute("w", 422, 2, last, None))
        await site.grow(1)
        await checkpointer.round()

        async def has_conflict() -> bool:
            return bool(checkpointer.cosigning.said())

        await until(has_conflict)
        await site.grow(1)
        with pytest.raises(NotSigned) as refused:
            await checkpointer.round()
        assert refused.value.reason == "witness w-disagrees"
        witness.trouble = None

        async def agrees() -> bool:
            return not checkpointer.cosigning.said()

        await until(agrees)
        assert (await checkpointer.round()).size == 4
