"""The runbook of requests, followed to the letter: each of its commands, in its order."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from click.testing import Result

from ledger.config import Settings
from tests.fault.keys import command
from tests.harness import found, new_site_name

PAGE = (Path(__file__).resolve().parents[2] / "deploy/runbooks/requests.md").read_text(encoding="utf-8")
COMMANDS = [
    line for text in re.findall(r"^```text\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL) for line in text.splitlines()
]
ID = re.compile(r"^request +(\S+)$", re.MULTILINE)


async def test_the_page_is_followed(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    site = (await found(settings, new_site_name())).site
    done: list[Result] = []
    entered: list[str] = []
    of = {"extend": 1, "forward": 1, "instruct": 1, "show": 1, "answer": 1, "refuse": 0}  # the access, the objection
    for line in COMMANDS:
        program, *words = shlex.split(line)
        assert program == "consent-ledger"
        asked = words[1]
        filled = [{"SITE": site, "ID": entered[of[asked]] if asked in of else ""}.get(word, word) for word in words]
        stdin = "v" * 22 if "--visitor-file" in words else ""
        done.append(await command(settings, *filled, answer=stdin))
        assert done[-1].exit_code == 0, f"{line}: {done[-1].output}"
        if asked == "register":
            entered += ID.findall(done[-1].output)
    outputs = (one.output for one in done)
    listed, overdue, objection, access, forwarded, extended, instructed, shown, answered, refused = outputs
    assert (listed, overdue) == ("", "")
    assert "state     received" in objection
    assert "next      identify, refuse" in objection, "Kazakhstan's term is not put off"
    assert "state     proven" in access
    assert "next      extend, instruct, refuse" in forwarded
    assert "put off   from" in extended
    assert "(complexity)" in extended
    assert "next      instruct, refuse" in extended
    assert "state     instructed" in instructed
    assert "instruction DSR-2026/118" in shown
    assert "state     answered" in answered
    assert "(manifestly_unfounded)" in refused
    for output in (objection, refused):
        assert "v" * 22 not in output
    wrong = await command(settings, "request", "forward", site, entered[1])
    assert (wrong.exit_code, "The request is answered" in wrong.output) == (2, True)
