"""What is written on its way out of the ledger outlives no writer: not one that ends, and not one that is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ledger import spool
from ledger.bundle import PAYLOADS, Writer
from ledger.core.errors import ConfigInvalid
from ledger.core.opening import Opening

KILLED = """
import os, signal, sys
from pathlib import Path
from ledger import spool
from ledger.bundle import Writer
writer = Writer(Path(sys.argv[1]) / "bundle")
with spool.spooled(Path(sys.argv[1])) as directory:
    (directory / "payloads.ndjson").write_text("openings")
    print(directory.name, flush=True)
    if sys.argv[2] == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    sys.stdin.read()
"""


def start(tmp_path: Path, what: str) -> tuple[subprocess.Popen[bytes], str]:
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, tmp_path, what], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    return process, process.stdout.readline().decode().strip()


def test_what_a_killed_export_left_is_gone_with_the_next_one(tmp_path: Path) -> None:
    process, name = start(tmp_path, "killed")
    with process:
        assert process.wait() == -signal.SIGKILL
    assert (tmp_path / name / "payloads.ndjson").exists()
    assert spool.left(tmp_path) == [tmp_path / name]
    with spool.spooled(tmp_path) as directory:
        assert not (tmp_path / name).exists()
        assert directory.stat().st_mode & 0o777 == 0o700
        assert spool.left(tmp_path) == []  # a living one is not left
    writer = Writer(tmp_path / "bundle")  # in whose place the killed one's half bundle lay
    writer.opening(Opening(1, bytes(32), b"{}"))
    writer.abandon()
    assert list(tmp_path.iterdir()) == []


def test_a_living_export_is_left_alone(tmp_path: Path) -> None:
    process, name = start(tmp_path, "lives")
    with process, spool.spooled(tmp_path):
        assert (tmp_path / name / "payloads.ndjson").exists()
        with pytest.raises(ConfigInvalid, match="another export"):
            Writer(tmp_path / "bundle")
    assert [path.name for path in tmp_path.iterdir()] == ["bundle.partial"]


def test_what_is_none_of_ours_is_never_taken_away(tmp_path: Path) -> None:
    (tmp_path / "bundle.partial").mkdir()
    (tmp_path / "bundle.partial" / "letter").write_text("mine")
    with pytest.raises(ConfigInvalid, match="none of ours"):
        Writer(tmp_path / "bundle")
    (tmp_path / "other.partial").write_text("mine")
    with pytest.raises(ConfigInvalid, match="none of ours"):
        Writer(tmp_path / "other")
    os.symlink(tmp_path / "bundle.partial", tmp_path / f"{spool.PREFIX}link")
    with spool.spooled(tmp_path):
        pass
    assert (tmp_path / "bundle.partial" / "letter").read_text() == "mine"
    assert (tmp_path / "other.partial").read_text() == "mine"
    assert PAYLOADS not in os.listdir(tmp_path / "bundle.partial")
