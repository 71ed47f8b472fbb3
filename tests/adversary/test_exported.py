"""An operator who does not know that his database was attacked exports it: the export hides nothing of it.

These attackers are superusers without a key, so the checkpoint that `export` takes is the last honest one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from ledger import cli
from tests.adversary.attacks import ATTACKS, SUPERUSER, Attack
from tests.adversary.gallery import Copy, Shown, second_opinion, verify
from tests.adversary.test_attacks import nothing
from tests.adversary.victim import SITE, Auditor, Honest, Victim, victim
from tests.conftest import service_url

# Stored tiles are not exported, but made anew from the entries. Over HTTP, where they are shown, a monitor finds them.
BY_A_SUPERUSER = [one for one in ATTACKS.values() if one.who == SUPERUSER and one.name != "a_tile_that_does_not_match"]


def exported(honest: Honest, admin_url: str, do: Callable[[Victim], Any], directory: Path) -> tuple[Shown, int]:
    """What the real export writes of the attacked ledger, and its exit code."""

    async def attack() -> Auditor:
        async with victim(honest, admin_url) as v:
            await do(v)
            return v.auditor

    auditor = asyncio.run(attack())
    environ = honest.settings.environment() | {"LEDGER_DATABASE_URL": service_url(admin_url)}
    bundle = directory / "bundle"
    result = CliRunner().invoke(cli.main, ["export", SITE, str(bundle), "--wait", "0"], env=environ)
    assert result.exit_code in (0, 1), result.output
    return Shown(bundle, auditor.arguments(directory), auditor), result.exit_code


def test_the_honest_log_is_sound_as_it_is_exported(honest: Honest, copy: Copy, tmp_path: Path) -> None:
    with copy() as admin_url:
        shown, code = exported(honest, admin_url, nothing, tmp_path)
    assert (verify(shown)["verdict"], code, second_opinion(shown)) == ("sound", 0, None)


@pytest.mark.parametrize("attack", BY_A_SUPERUSER, ids=lambda attack: attack.name)
def test_an_export_of_an_attacked_database_is_never_sound(
    attack: Attack, honest: Honest, copy: Copy, tmp_path: Path
) -> None:
    with copy() as admin_url:
        shown, _ = exported(honest, admin_url, attack.do, tmp_path)
    assert verify(shown)["verdict"] == "fault"
    assert second_opinion(shown) is not None
