"""Which processes a run started, kept on disk so that the next run can end what a killed one left behind.

A process id alone says little, ids are reused: a record also holds the start time and the command line, and only a
process that matches in all of it is touched.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import msgspec

from ledger import config

_INSTANT_SECONDS = 0.001
_PAUSE_SECONDS = 0.02
_PS_TIMEOUT_SECONDS = 10


class Record(msgspec.Struct, frozen=True):
    """One started process. `identity` is `identity(pid)` as it was then; `signal` ends it at once."""

    pid: int
    identity: str
    signal: int


def identity(pid: int) -> str:
    """Boot, start time and command line of a living process; empty if there is none (a zombie has no command line)."""
    if sys.platform != "linux":
        command = ["ps", "-o", "lstart=", "-o", "command=", "-p", str(pid)]
        answer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_PS_TIMEOUT_SECONDS)
        return answer.stdout.strip()
    process = Path("/proc", str(pid))
    try:
        command_line = (process / "cmdline").read_bytes().rstrip(b"\0").replace(b"\0", b" ").decode(errors="replace")
        started = (process / "stat").read_text(errors="replace").rpartition(")")[2].split()[19]
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""
    return f"{boot} {started} {command_line}" if command_line else ""


def remember(run_dir: Path, name: str, pid: int, number: int) -> None:
    """Record a process just started, to be ended by signal `number`."""
    who = identity(pid)
    deadline = time.monotonic() + config.EXEC_TIMEOUT_SECONDS
    while not who and time.monotonic() < deadline:  # for an instant after exec there is no command line yet
        time.sleep(_INSTANT_SECONDS)
        who = identity(pid)
    run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    unfinished = run_dir / f".{name}.unfinished"
    unfinished.write_bytes(msgspec.json.encode(Record(pid, who, number)))
    unfinished.replace(run_dir / f"{name}.json")


def forget(run_dir: Path, name: str) -> None:
    (run_dir / f"{name}.json").unlink(missing_ok=True)


def end_orphans(run_dir: Path) -> list[str]:
    """End every recorded process that still lives, and give the names of those. Hold the lock of the data directory."""
    ended = []
    for path in sorted(run_dir.glob("*.json")):
        try:
            record = msgspec.json.decode(path.read_bytes(), type=Record)
        except (msgspec.DecodeError, msgspec.ValidationError):  # cut short by a crash: there is nothing to go by
            path.unlink()
            continue
        if record.identity and identity(record.pid) == record.identity:
            _end(record)
            ended.append(path.stem)
        path.unlink()
    return ended


def _end(record: Record) -> None:
    for number in (record.signal, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(record.pid, number)
        deadline = time.monotonic() + config.ORPHAN_TIMEOUT_SECONDS
        while identity(record.pid) == record.identity:
            if time.monotonic() > deadline:
                break
            time.sleep(_PAUSE_SECONDS)
        else:
            return
