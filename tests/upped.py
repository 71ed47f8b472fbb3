"""A real `up` in a process of its own, for tests of what its users see; it lives as long as the block."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

START_SECONDS = 120
STOP_SECONDS = 30


@contextmanager
def running_up(*, temporary: bool = False) -> Iterator[Path]:
    """`consent-ledger up` with the example sites, on free ports: its directory, in which `data` is the data directory.

    `temporary`: what it puts among temporary files is in that directory too.
    """
    directory = Path(tempfile.mkdtemp(prefix="ledger-up-"))
    environ = {**os.environ, "TMPDIR": str(directory)} if temporary else None
    with (directory / "up.log").open("wb") as log:
        command = [sys.executable, "-m", "ledger", "up", "--data", str(directory / "data"), "--port", "0"]
        up = subprocess.Popen(
            command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True, env=environ
        )
    try:
        deadline = time.monotonic() + START_SECONDS
        while not (directory / "data" / "credentials.json").exists():
            assert up.poll() is None, (directory / "up.log").read_text()
            assert time.monotonic() < deadline, "the service did not come up in time"
            time.sleep(0.05)
        yield directory
    finally:
        up.send_signal(signal.SIGINT)
        try:
            up.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(up.pid, signal.SIGKILL)
            up.wait()
        shutil.rmtree(directory, ignore_errors=True)
