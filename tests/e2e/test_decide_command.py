"""`consent-ledger decide` as a command: its answer is the service's, and the visitor's id stands nowhere."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from ledger.cli import main
from ledger.config import Settings
from tests.e2e.conftest import Shop
from tests.harness import grant, refusal

PURPOSES = ("necessary", "analytics")


def run(settings: Settings, *arguments: str, visitor: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | settings.environment()
    command = [sys.executable, "-m", "ledger", "decide", *arguments]
    return subprocess.run(
        command, input=visitor, env=environment, capture_output=True, text=True, check=False, timeout=60
    )


async def test_the_command_answers_as_the_service_does_and_never_repeats_the_visitor(
    shop: Shop, settings: Settings, tmp_path: Path
) -> None:
    event = grant()
    visitor = event["visitor"]
    granted = (await shop.record(event)).receipt
    await shop.record(refusal(visitor=visitor, type="consent.withdrawn"))
    (tmp_path / "visitor").write_text(visitor + "\n")
    from_file = ("--visitor-file", str(tmp_path / "visitor"))

    done = await asyncio.to_thread(run, settings, shop.site.site, *from_file, "--json", visitor="")
    assert (done.returncode, done.stderr) == (0, "")
    answer = msgspec.to_builtins(await shop.consent(visitor))
    del answer["visitor"]
    assert json.loads(done.stdout) == answer

    known = ("--known-at", str(granted.seq), "--at", granted.recorded_at, "--region", "KZ", "--explain")
    done = await asyncio.to_thread(run, settings, shop.site.site, "analytics", *known, visitor=visitor)
    assert (done.returncode, done.stderr) == (0, "")
    assert "analytics: granted" in done.stdout
    assert f"by entry {granted.seq} of" in done.stdout
    assert "\n  - " in done.stdout
    assert visitor not in done.stdout

    done = await asyncio.to_thread(run, settings, shop.site.site, "analytics", "--gpc", visitor=visitor)
    assert (done.returncode, "analytics: denied" in done.stdout) == (0, True)
    done = await asyncio.to_thread(run, settings, "no.example", visitor=visitor)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "no.example" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "visitor", "words"),
    [
        (("analytics",), "too short", "22 to 64 letters"),
        (("analytics",), "", "22 to 64 letters"),
        (("*",), "v" * 22, "no purpose id"),
        (("analytics", "--region", "kz"), "v" * 22, "ISO 3166"),
        (("analytics", "--at", "yesterday"), "v" * 22, "--at is a time"),
        (("analytics", "--known-at", "-1"), "v" * 22, "--known-at is a time"),
    ],
)
def test_a_question_that_is_none_is_refused_before_anything_is_asked(
    arguments: tuple[str, ...], visitor: str, words: Any
) -> None:
    done = CliRunner().invoke(main, ["decide", "a.example", *arguments], input=visitor)
    assert done.exit_code == 2
    assert words in done.output
    assert not visitor or visitor not in done.output
