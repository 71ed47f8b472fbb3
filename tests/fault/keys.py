"""Key commands as a person gives them, and what tests look at afterwards."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from ledger import cli
from ledger.config import Settings
from ledger.core.ed25519 import SigningKey
from ledger.keys.files import keys_here
from ledger.provision import SiteCredentials

PASSPHRASE = "an odd passphrase of some length"


def load_key(settings: Settings, site: str, role: str) -> SigningKey:
    """A key of the role from this machine's files, where it does not matter which."""
    return next(iter(keys_here(settings, site, role).keys.values()))


async def command(settings: Settings, *arguments: str, answer: str = "", **environ: str) -> Result:
    """`consent-ledger …`, in a thread: it has a loop of its own. `answer` is its standard input."""
    invoke: Callable[[], Result] = lambda: CliRunner().invoke(  # noqa: E731
        cli.main, list(arguments), env=settings.environment() | environ, input=answer
    )
    return await asyncio.to_thread(invoke)


async def auditor(*words: str | Path) -> tuple[int, str]:
    """`consent-ledger …` on a machine that knows nothing of the ledger: its exit code and what it said."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "ledger", *map(str, words)),
        env={name: value for name, value in os.environ.items() if not name.startswith("LEDGER_")},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode()


async def key(settings: Settings, *arguments: str, answer: str = "") -> str:
    """`consent-ledger key …` that has to succeed: its output."""
    result = await command(settings, "key", *arguments, answer=answer)
    assert result.exit_code == 0, result.output
    return result.output


async def refused(settings: Settings, *arguments: str, answer: str = "") -> str:
    """`consent-ledger key …` that has to end with one sentence: that sentence."""
    result = await command(settings, "key", *arguments, answer=answer)
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    return result.output


async def listed(settings: Settings, site: SiteCredentials) -> list[dict[str, Any]]:
    """Rows of `key list --json`."""
    rows: list[dict[str, Any]] = json.loads(await key(settings, "list", site.site, "--json"))["keys"]
    return rows


async def ids(settings: Settings, site: SiteCredentials, role: str, state: str = "active") -> list[str]:
    """Ids of the keys of a role in a state, oldest first."""
    return [row["keyId"] for row in await listed(settings, site) if (row["role"], row["state"]) == (role, state)]
