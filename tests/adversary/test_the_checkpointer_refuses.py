"""The checkpointer signs nothing that `verify` would find: the honest operator's own key never vouches for an attack.

It reads the attacked log from genesis on, as it does where its memory was lost. What breaks no rule within the log
(a rewrite by who holds the keys) it knows by its records, which are tested where they are (tests/fault).
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from ledger.checkpointer.follower import LogFollower, NotSigned
from ledger.store import checkpoints as store
from ledger.store.pool import open_pool
from ledger.store.sites import SiteRow
from ledger.vault import Vaults
from tests.adversary.attacks import ATTACKS, Attack, Doing
from tests.adversary.gallery import Copy
from tests.adversary.test_attacks import nothing
from tests.adversary.victim import SITE, SIZE, Honest, victim
from tests.conftest import service_url

NOT_IN_THE_LOG = {
    "a_tile_that_does_not_match",  # it writes tiles, and reads none
    "a_checkpoint_with_a_line_more",
    "a_cosignature_forged",
    "an_entry_deleted",  # without a checkpoint nothing tells how long the log was, and the chain is found broken
}
FOUND_IN_THE_LOG = [one for one in ATTACKS.values() if one.rules - {2, 4} and one.name not in NOT_IN_THE_LOG]


async def follow(honest: Honest, admin_url: str, do: Doing, path: Path) -> int:
    """Attack, and have the log followed from genesis on; the size reached."""
    async with victim(honest, admin_url) as v:
        await do(v)
        pool = await open_pool(service_url(admin_url), size=1)
        log = LogFollower(pool, Vaults(pool, honest.settings.masters), SiteRow(v.site_id, SITE, v.origin), path)
        try:
            await log.open()
            await log.catch_up(await store.moment(pool, v.site_id))
            return log.log.size
        finally:
            log.close()
            await pool.close()


def test_it_finds_the_honest_log_sound(honest: Honest, copy: Copy, tmp_path: Path) -> None:
    with copy() as admin_url:
        assert asyncio.run(follow(honest, admin_url, nothing, tmp_path / "memory")) == SIZE


@pytest.mark.parametrize("attack", FOUND_IN_THE_LOG, ids=lambda attack: attack.name)
def test_it_does_not_sign_what_breaks_a_rule(attack: Attack, honest: Honest, copy: Copy, tmp_path: Path) -> None:
    with copy() as admin_url, pytest.raises(NotSigned) as refused:
        asyncio.run(follow(honest, admin_url, attack.do, tmp_path / "memory"))
    assert refused.value.reason in {f"rule-{rule}" for rule in attack.rules}, refused.value
