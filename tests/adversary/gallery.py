"""What auditors get to see of an attacked ledger, made when it is first asked for, and two verifiers to judge it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

from click.testing import CliRunner

from ledger import cli
from tests.adversary.victim import Auditor, Honest, Victim, victim
from tests.vectors import spec_verifier
from tests.vectors.spec_notes import Fault

Copy = Callable[[], AbstractContextManager[str]]


class Shown(NamedTuple):
    """What an auditor gets to see of an attacked ledger, and what he brings along."""

    bundle: Path
    arguments: list[str]
    auditor: Auditor


class Gallery:
    """Bundles of attacked ledgers, made when they are first asked for."""

    def __init__(self, honest: Honest, copy: Copy, directory: Path) -> None:
        self._honest, self._copy, self._directory = honest, copy, directory
        self._shown: dict[str, Shown] = {}
        self.attacked: dict[str, Victim] = {}
        """The logs as the attackers left them; their databases are gone."""

    def __call__(self, name: str, do: Callable[[Victim], Any]) -> Shown:
        if name not in self._shown:
            directory = self._directory / name
            with self._copy() as admin_url:
                auditor = asyncio.run(self._attack(admin_url, do, directory / "bundle"))
            self._shown[name] = Shown(directory / "bundle", auditor.arguments(directory), auditor)
        return self._shown[name]

    async def _attack(self, admin_url: str, do: Callable[[Victim], Any], bundle: Path) -> Auditor:
        async with victim(self._honest, admin_url) as v:
            await do(v)
            await v.publish(bundle)
            self.attacked[bundle.parent.name] = v
            return v.auditor


def verify(shown: Shown) -> dict[str, Any]:
    """The report of `consent-ledger verify --json`, as an auditor gets it."""
    arguments = ["verify", str(shown.bundle), *shown.arguments, "--json", "--processes", "1"]
    result = CliRunner().invoke(cli.main, arguments)
    assert result.exit_code in (0, 1, 3), result.output
    report: dict[str, Any] = json.loads(result.stdout)
    assert result.exit_code == {"sound": 0, "fault": 1, "log only": 3}[report["verdict"]]
    return report


def second_opinion(shown: Shown) -> int | None:
    """The first rule that the verifier made from SPEC.md alone finds broken."""
    auditor = shown.auditor
    log_id = None if auditor.log_id is None else bytes.fromhex(auditor.log_id)
    old = None if auditor.old is None else auditor.old.encode()
    try:
        spec_verifier.audit(shown.bundle, auditor.log_vkey, log_id, old, tuple(map(str, auditor.witnesses)))
    except Fault as fault:
        return fault.rule
    return None
