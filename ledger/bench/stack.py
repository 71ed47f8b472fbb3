"""What is measured: the ledger of a running `up`, or one of its own that leaves nothing behind."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import msgspec

from ledger.bench.witnesses import Witnesses, witnessing
from ledger.core.admin_act import admin_log_of
from ledger.core.errors import ConfigInvalid
from ledger.core.note import TYPE_ED25519, VerifierKey
from ledger.credentials import CREDENTIALS_NAME
from ledger.embedded.found import EXAMPLE_SITES
from ledger.embedded.installation import DataDirectory
from ledger.embedded.records import Record
from ledger.keys.files import log_keys

START_TIMEOUT_SECONDS = 90.0
STOP_TIMEOUT_SECONDS = 60.0
_PAUSE_SECONDS = 0.1


class Memory(NamedTuple):
    """Resident memory of one process in MB: now, and at its highest."""

    name: str
    now_mb: float
    peak_mb: float


@contextmanager
def own_stack(witnesses: int = 0) -> Iterator[Path]:
    """The data directory of an `up` of its own, whose logs so many witnesses cosign."""
    directory = Path(tempfile.mkdtemp(prefix="consent-ledger-bench-"))
    data = directory / "data"
    command = [sys.executable, "-P", "-m", "ledger", "up", "--data", str(data), "--port", "0"]
    try:
        with witnessing(directory, witnesses) as beside:
            data.mkdir(mode=0o700)
            if beside.policy:
                DataDirectory(data).witnesses.write_text(beside.policy, encoding="utf-8")
            with (directory / "up.log").open("wb") as log:
                process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            try:
                _wait_for(process, data, directory / "up.log", beside)
                yield data
            finally:
                process.send_signal(signal.SIGTERM)
                with suppress(subprocess.TimeoutExpired):
                    process.wait(STOP_TIMEOUT_SECONDS)
                process.kill()
                process.wait()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _wait_for(process: subprocess.Popen[bytes], data: Path, log: Path, witnesses: Witnesses) -> None:
    """Until it answers. A site is ready once its first checkpoint is cosigned: witnesses get to know it before."""
    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    while not (data / CREDENTIALS_NAME).exists():
        if process.poll() is not None or time.monotonic() > deadline:
            raise ConfigInvalid(f"the ledger to be measured does not start:\n{log.read_text(errors='replace')[-2000:]}")
        witnesses.trust(_log_vkeys(data))
        time.sleep(_PAUSE_SECONDS)


def _log_vkeys(data: Path) -> Iterator[str]:
    """Of the example sites that are being founded, their administrative logs too: keys are there before all else."""
    with suppress(ConfigInvalid):  # it has not begun
        settings = DataDirectory(data).settings()
        for name in (*EXAMPLE_SITES, *map(admin_log_of, EXAMPLE_SITES)):
            with suppress(ConfigInvalid):
                for key in log_keys(settings, name):
                    yield str(VerifierKey(f"{settings.origin_prefix}/{name}", TYPE_ED25519, key.public))


def server_memory(data: Path) -> list[Memory]:
    """Memory of the server and of its worker; nothing where the system has no /proc."""
    try:
        record = msgspec.json.decode((DataDirectory(data).run / "serve.json").read_bytes(), type=Record)
    except (OSError, msgspec.MsgspecError):
        return []
    found = [_memory("server", record.pid)]
    found += [_memory("worker", pid) for pid in _children(record.pid)]
    return [memory for memory in found if memory is not None]


def _children(pid: int) -> list[int]:
    with suppress(OSError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()]
    return []


def _memory(name: str, pid: int) -> Memory | None:
    sizes: dict[str, float] = {}
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition(":")
            if key in ("VmRSS", "VmHWM"):
                sizes[key] = int(value.split()[0]) / 1024
    return Memory(name, sizes["VmRSS"], sizes["VmHWM"]) if len(sizes) == 2 else None
