"""The witnesses of a benchmark's own ledger: each a process, as an auditor would run it, but on this machine."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from ledger.core.errors import ConfigInvalid
from ledger.core.note import TYPE_ED25519, parse_vkey
from ledger.witness import state

STOP_TIMEOUT_SECONDS = 20.0


class Witnesses:
    """Running witnesses. `policy` is a tlog-policy in which all of them are the quorum; empty without any."""

    def __init__(self, directories: list[Path], policy: str) -> None:
        self.policy = policy
        self._directories = directories
        self._trusted: set[str] = set()

    def trust(self, vkeys: Iterable[str]) -> None:
        """Let all of them cosign these logs."""
        for vkey in set(vkeys) - self._trusted:
            for directory in self._directories:
                opened = state.open_state(directory, time.time)
                try:
                    opened.add_log(parse_vkey(vkey, TYPE_ED25519))
                finally:
                    opened.close()
            self._trusted.add(vkey)


@contextmanager
def witnessing(directory: Path, count: int) -> Iterator[Witnesses]:
    """Run so many witnesses, below a directory, while the block runs."""
    directories, lines = [], []
    with ExitStack() as running:
        for number in range(1, count + 1):
            home = directory / f"witness-{number}"
            state.create(home, f"witness.localhost/w{number}")
            directories.append(home)
            lines.append(running.enter_context(_run(home, directory / f"witness-{number}.log")))
        names = " ".join(line.split()[1] for line in lines)
        policy = "".join(lines) + f"group all-of-them all {names}\nquorum all-of-them\n" if count else ""
        yield Witnesses(directories, policy)


@contextmanager
def _run(home: Path, log: Path) -> Iterator[str]:
    """One process; gives its line of a policy."""
    command = [sys.executable, "-P", "-m", "ledger", "witness", "run", str(home), "--port", "0"]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=output, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise ConfigInvalid(
                f"a witness of the benchmark does not start:\n{log.read_text(errors='replace')[-2000:]}"
            )
        yield line
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_TIMEOUT_SECONDS)
        process.kill()
        process.communicate()
