"""The runbook of a site's own policy, followed to the letter: each of its commands, in its order."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from click.testing import Result

from ledger.config import Settings
from tests.fault.keys import command
from tests.harness import document, found, new_site_name

PAGE = (Path(__file__).resolve().parents[2] / "deploy/runbooks/policy.md").read_text(encoding="utf-8")
COMMANDS = [
    line for text in re.findall(r"^```text\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL) for line in text.splitlines()
]


async def test_the_page_is_followed(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = (await found(settings, new_site_name())).site
    monkeypatch.chdir(tmp_path)
    first = document(site, "1.1")
    Path("policy.yaml").write_bytes(first)
    longer = re.sub(rb"renewAfter: \S+", b"renewAfter: P24M", document(site, "1.2"))
    assert longer != document(site, "1.2")
    Path("next.yaml").write_bytes(longer)
    Path("visitor.txt").write_text("v" * 22)
    done: list[Result] = []
    for line in COMMANDS:
        program, *words = shlex.split(line)
        assert program == "consent-ledger"
        done.append(await command(settings, *(site if word == "SITE" else word for word in words)))
        assert done[-1].exit_code == 0, f"{line}: {done[-1].output}"
    checked, published, compared, republished, listed, decided = (one.output for one in done)
    assert f"{site}, version 1.1" in checked
    assert "version 1.1 is published" in published
    assert "! " in compared
    assert "asked again for analytics" in compared
    assert "version 1.2 is published" in republished
    assert [line.split()[0] for line in listed.splitlines() if re.match(r"\s*1\.", line)][:2] == ["1.2", "1.1"]
    assert "denied" in decided
