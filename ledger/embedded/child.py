"""One child process: in a session of its own, out of reach of a terminal's Ctrl-C, and dying with its parent.

It does not restart what ended; `up` decides that.

The kernel sends the death signal when the *thread* that forked ends, hence the main thread only; it forgets the signal
when the child changes its user, hence it is asked for afterwards, which is where Popen calls `preexec_fn`. Where there
is no such signal (outside Linux), and in the instant before it is set, the record on disk is what finds an orphan.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, NamedTuple

from ledger import config
from ledger.embedded.records import forget, remember

_POLL_SECONDS = 0.02
_LOG_TAIL_BYTES = 8192
_PR_SET_PDEATHSIG = 1


class Account(NamedTuple):
    """Whom a child runs as, where that is not ourselves."""

    uid: int
    gid: int


class Step(NamedTuple):
    """Of a way to stop: send this signal, wait this long."""

    signal: signal.Signals
    seconds: float


@dataclass(eq=False)
class Child:
    """A process to start, watch and stop. `pass_fds` and `environ` are all that it inherits beside the log."""

    name: str
    command: Sequence[str]
    log: Path
    environ: Mapping[str, str]
    run_dir: Path
    directory: Path | None = None
    account: Account | None = None
    pass_fds: Sequence[int] = ()
    death_signal: signal.Signals = signal.SIGKILL
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False, repr=False)

    def start(self) -> None:
        """Start it; OSError where it cannot be executed."""
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("children are started from the main thread: they die with the thread that started them")
        if self.running:
            raise RuntimeError(f"{self.name} runs already")
        account = self.account
        with _open_log(self.log) as log:
            self._process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.directory,
                env=dict(self.environ),
                pass_fds=self.pass_fds,
                start_new_session=True,
                user=account.uid if account else None,
                group=account.gid if account else None,
                extra_groups=() if account else None,
                umask=0o077,
                preexec_fn=follow_parent(self.death_signal),  # noqa: PLW1509 - it takes no lock
            )
        remember(self.run_dir, self.name, self._process.pid, self.death_signal)

    @property
    def pid(self) -> int:
        """Of the process started last."""
        if self._process is None:
            raise RuntimeError(f"{self.name} was never started")
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self.poll() is None

    def poll(self) -> int | None:
        """None while it runs, else the exit code (negative: the signal that ended it). Reaps it, ends what it left."""
        process = self._process
        if process is None:
            raise RuntimeError(f"{self.name} was never started")
        if process.returncode is None and process.poll() is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            forget(self.run_dir, self.name)
        return process.returncode

    @property
    def ending(self) -> str:
        """How it ended, for a person."""
        code = self.poll() if self._process else None
        if code is None:
            return "it did not end"
        names = {number.value: number.name for number in signal.Signals}
        return f"exit code {code}" if code >= 0 else f"killed by {names.get(-code, -code)}"

    async def wait(self, seconds: float) -> int | None:
        """The exit code, or None if it still runs after that long."""
        deadline = time.monotonic() + seconds
        while (code := self.poll()) is None and time.monotonic() < deadline:  # noqa: ASYNC110 - waitpid has no event
            await asyncio.sleep(_POLL_SECONDS)
        return code

    async def stop(self, *steps: Step) -> None:
        """Go down the steps until it has ended; SIGKILL is always the last one."""
        for step in (*steps, Step(signal.SIGKILL, config.CHILD_KILL_TIMEOUT_SECONDS)):
            if not self.running:
                return
            self.send(step.signal)
            await self.wait(step.seconds)
        if self.running:
            raise RuntimeError(f"{self.name} (process {self.pid}) survived SIGKILL: the machine's storage may hang")

    def send(self, number: signal.Signals) -> None:
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.send_signal(number)

    def log_tail(self, lines: int = 8) -> str:
        """The last lines of the log, for a person."""
        with suppress(OSError), self.log.open("rb") as file:
            file.seek(max(0, self.log.stat().st_size - _LOG_TAIL_BYTES))
            return "\n".join(file.read().decode(errors="replace").splitlines()[-lines:])
        return ""


def _open_log(path: Path) -> BinaryIO:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with suppress(FileNotFoundError):
        if path.stat().st_size > config.CHILD_LOG_MAX_BYTES:
            path.replace(path.with_name(path.name + ".1"))
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab", buffering=0)


def follow_parent(death_signal: signal.Signals) -> Callable[[], None] | None:
    """What the child does between fork and exec: ask for the death signal, and end if the parent is gone already."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl
    arguments = [ctypes.c_ulong(value) for value in (int(death_signal), 0, 0, 0)]
    parent = os.getpid()

    def follow() -> None:
        if prctl(_PR_SET_PDEATHSIG, *arguments) != 0 or os.getppid() != parent:
            os._exit(125)

    return follow
