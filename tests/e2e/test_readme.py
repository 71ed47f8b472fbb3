"""What the README tells a newcomer to type, typed: against a real `up`, in a directory of its own."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

TOP = Path(__file__).resolve().parents[2]
README = (TOP / "README.md").read_text(encoding="utf-8")
START_SECONDS = 90
STOP_SECONDS = 40
COMMAND_SECONDS = 300

pytestmark = pytest.mark.slow


class Block(NamedTuple):
    """A fenced block and the comment above it, which says what it is."""

    mark: str
    language: str
    text: str


BLOCKS = [
    Block(mark, language, text)
    for mark, language, text in re.findall(
        r"(?:^<!-- ([a-z]+: [a-z]+) -->\n)?^```([a-z]+)\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL
    )
]


def block(mark: str) -> str:
    (found,) = [block.text.strip() for block in BLOCKS if block.mark == mark]
    return found


class Newcomer(NamedTuple):
    """A directory with the installation in `.venv`, in which `up` runs; `screen` is what that printed."""

    directory: Path
    screen: str

    def types(self, command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["sh", "-euc", command],
            cwd=self.directory,
            env=environment(),
            capture_output=True,
            text=True,
            check=False,
            timeout=COMMAND_SECONDS,
        )


def environment() -> dict[str, str]:
    """As a newcomer's: nothing of the ledger's in it."""
    return {name: value for name, value in os.environ.items() if not name.startswith("LEDGER_")}


@pytest.fixture(scope="module")
def newcomer() -> Iterator[Newcomer]:
    directory = Path(tempfile.mkdtemp(prefix="ledger-readme-"))
    (directory / ".venv").symlink_to(sys.prefix)
    # The last part of the run command starts the service; the parts before it installed it where this test runs.
    command = block("command: run").rpartition(" && ")[2] + " --port 0"
    with (directory / "screen").open("wb") as screen:
        up = subprocess.Popen(
            ["sh", "-c", f"exec {command}"], cwd=directory, env=environment(), stdout=screen, stderr=screen
        )
    try:
        deadline = time.monotonic() + START_SECONDS
        while "take-offline" not in (directory / "screen").read_text():  # the last thing that a first start says
            assert up.poll() is None, (directory / "screen").read_text()
            assert time.monotonic() < deadline, "the service did not come up in time"
            time.sleep(0.1)
        yield Newcomer(directory, (directory / "screen").read_text())
    finally:
        up.send_signal(signal.SIGINT)
        try:
            assert up.wait(STOP_SECONDS) == 0
        finally:
            up.kill()
    shutil.rmtree(directory)


def test_every_block_that_can_be_typed_is_typed_by_a_test() -> None:
    tries = ("frontend", "why", "simulate", "stranger", "verify", "forget")
    typed = {"command: run", "command: test", *(f"try: {name}" for name in tries)}
    assert {block.mark for block in BLOCKS if block.language != "text"} == typed


def test_the_commands_install_with_nothing_but_python() -> None:
    install = "python3 -m venv .venv && .venv/bin/pip install -q "
    assert block("command: run") == install + "'.[embedded]' && .venv/bin/consent-ledger up"
    test = "-e '.[embedded,test]' && .venv/bin/python -m pytest -n 4 --dist loadfile"
    assert block("command: test") == install + test


def test_a_frontend_records_a_consent_and_its_withdrawal(newcomer: Newcomer) -> None:
    (newcomer.directory / "try.py").write_text(block("try: frontend"))
    done = newcomer.types(".venv/bin/python -W error try.py")
    assert done.returncode == 0, done.stderr
    recorded, before, after = done.stdout.splitlines()
    assert re.fullmatch(r"recorded at weco\.nexaxt\.com:\d+ with leaf hash \S{44}", recorded)
    assert before == "analytics: granted"
    assert after == "after the withdrawal: withdrawn"

    why = newcomer.types(block("try: why"))
    assert why.returncode == 0, why.stdout + why.stderr
    assert "withdrawn" in why.stdout
    assert "<html" in (newcomer.directory / "record.html").read_text("utf-8")

    asked = newcomer.types(block("try: stranger"))
    assert asked.returncode == 0, asked.stdout + asked.stderr
    assert asked.stdout.startswith("VERIFIED"), asked.stdout

    forgotten = newcomer.types(block("try: forget"))
    assert forgotten.returncode == 0, forgotten.stdout + forgotten.stderr
    assert "VERIFIED: the log holds every erasure that this certificate names" in forgotten.stdout
    assert "match their acts" in forgotten.stdout

    receipt = newcomer.directory / "receipt.json"
    receipt.write_text(receipt.read_text().replace('"position": "weco', '"position": "wecq'))
    assert newcomer.types(block("try: stranger")).returncode == 1


def test_a_day_of_visitors_is_exported_and_found_sound_until_a_byte_is_changed(newcomer: Newcomer) -> None:
    simulated = newcomer.types(block("try: simulate"))
    assert simulated.returncode == 0, simulated.stdout + simulated.stderr
    assert "mismatches       0\n" in simulated.stdout

    verify = block("try: verify")
    verified = newcomer.types(verify)
    assert verified.returncode == 0, verified.stdout + verified.stderr
    assert "sound" in verified.stdout

    payloads = newcomer.directory / "bundle" / "payloads.ndjson"
    data = bytearray(payloads.read_bytes())
    at = len(data) // 2
    data[at] = data[at] ^ 1 if chr(data[at] ^ 1).isalnum() else data[at] ^ 3
    payloads.write_bytes(data)
    without_export = "\n".join(line for line in verify.splitlines() if " export " not in line)
    changed = newcomer.types(without_export)
    assert changed.returncode == 1, changed.stdout + changed.stderr
    assert re.search(r"rule \d+", changed.stdout + changed.stderr)


def test_the_commands_that_up_suggests_work_as_they_are_printed(newcomer: Newcomer) -> None:
    suggested = re.findall(r"^  (\S*consent-ledger .*)$", newcomer.screen, flags=re.MULTILINE)
    assert [command.split()[1] for command in suggested] == ["simulate", "export", "verify", "key"]
    assert suggested.pop().endswith(" key take-offline SITE FILE")
    shutil.rmtree(newcomer.directory / "bundle", ignore_errors=True)
    for command in suggested:
        done = newcomer.types(command)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
