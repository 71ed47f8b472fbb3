"""Witnesses under test: a log in memory that can lie, and witnesses as processes.

Nothing here waits for a fixed time. A `TreeLog` signs whatever it is told to, so that a test can offer what an honest
log never would.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

from click.testing import CliRunner

from ledger.cli import main
from ledger.config import Settings
from ledger.core import merkle
from ledger.core.admin_act import admin_log_of
from ledger.core.ed25519 import SigningKey
from ledger.core.errors import ConfigInvalid
from ledger.core.note import TYPE_ED25519, Checkpoint, VerifierKey, sign_checkpoint
from ledger.core.witnessing import Offer
from ledger.keys.files import log_keys
from ledger.provision import SiteCredentials
from ledger.witness import state
from tests.harness import found, new_site_name, until
from tests.logbuilder import key

ORIGIN = "ledger.example/shop.example.com"
START_TIMEOUT_SECONDS = 60.0


class TreeLog:
    """A log of numbered leaves. A `fork` has leaves of its own from `shared` on; those below are of `before`."""

    def __init__(
        self,
        origin: str = ORIGIN,
        signer: SigningKey | None = None,
        *,
        fork: str = "",
        shared: int = 0,
        before: TreeLog | None = None,
    ) -> None:
        self.origin, self.signer = origin, signer or key("log")
        self._fork = fork
        self._leaves: list[bytes] = list((before or TreeLog(origin)).leaves(shared)) if shared else []

    @property
    def vkey(self) -> VerifierKey:
        return VerifierKey(self.origin, TYPE_ED25519, self.signer.public)

    def leaves(self, size: int) -> list[bytes]:
        for seq in range(len(self._leaves), size):
            self._leaves.append(sha256(f"{self.origin} {seq} {self._fork}".encode()).digest())
        return self._leaves[:size]

    def head(self, size: int) -> Checkpoint:
        """Unsigned."""
        return Checkpoint(self.origin, size, merkle.root_of(self.leaves(size)))

    def checkpoint(self, size: int) -> Checkpoint:
        return sign_checkpoint(self.head(size), self.vkey, self.signer)

    def proof(self, old: int, new: int) -> list[bytes]:
        return merkle.consistency_proof(old, new, merkle.subtrees_of(self.leaves(new)))

    async def prove(self, old: int, new: int) -> list[bytes]:
        return self.proof(old, new)

    def offer(self, old: int, new: int) -> Offer:
        return Offer(old, tuple(self.proof(old, new)), self.checkpoint(new))


async def command(*words: str | Path) -> tuple[int, str]:
    """`consent-ledger witness …`: its exit code and what it said."""
    done = await asyncio.to_thread(CliRunner().invoke, main, ["witness", *map(str, words)])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.output


class WitnessProcess:
    """`witness run` on a port that it keeps. Made with `create`; `async with` starts and stops it."""

    def __init__(self, directory: Path, vkey: VerifierKey) -> None:
        self.directory, self.vkey = directory, vkey
        self.url = ""
        self._port = "0"
        self._process: asyncio.subprocess.Process | None = None

    @classmethod
    async def create(cls, directory: Path, name: str, *logs: VerifierKey) -> WitnessProcess:
        made = cls(directory, state.create(directory, name))
        made.trust(*logs)
        return made

    def trust(self, *logs: VerifierKey) -> None:
        """As `witness add-log` does."""
        opened = state.open_state(self.directory, time.time)
        try:
            for log in logs:
                opened.add_log(log)
        finally:
            opened.close()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> str:
        return (self.directory.parent / f"{self.directory.name}.log").read_text()

    async def start(self) -> None:
        with (self.directory.parent / f"{self.directory.name}.log").open("ab") as file:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", "ledger", "witness", "run", str(self.directory), "--port", self._port),
                stdout=asyncio.subprocess.PIPE,
                stderr=file,
            )
        assert self._process.stdout is not None
        line = await asyncio.wait_for(self._process.stdout.readline(), START_TIMEOUT_SECONDS)
        assert line, self.log
        self.url = line.decode().split()[-1]
        self._port = self.url.rpartition(":")[2]

    def send(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    async def kill(self) -> None:
        self.send(signal.SIGKILL)
        await self.ended()

    async def ended(self) -> int:
        assert self._process is not None
        return await self._process.wait()

    async def stop(self) -> int:
        if self._process is None or self._process.returncode is not None:
            return 0
        self.send(signal.SIGTERM)
        return await self.ended()

    async def __aenter__(self) -> WitnessProcess:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()


async def found_witnessed(settings: Settings, *witnesses: WitnessProcess) -> SiteCredentials:
    """Found a site whose log these witnesses get to know while it waits for its first cosignatures."""
    name = new_site_name()
    founding = asyncio.create_task(found(settings, name))

    async def has_keys() -> bool:
        assert not founding.done()
        with suppress(ConfigInvalid):
            return all(log_keys(settings, log) for log in (name, admin_log_of(name)))
        return False

    await until(has_keys)
    for log in (name, admin_log_of(name)):
        (key,) = log_keys(settings, log)
        vkey = VerifierKey(f"{settings.origin_prefix}/{log}", TYPE_ED25519, key.public)
        for witness in witnesses:
            witness.trust(vkey)
    return await founding


def policy_text(quorum: str, *witnesses: WitnessProcess) -> str:
    """A tlog-policy: `quorum` is any, all, or how many."""
    lines = [f"witness w{i} {w.vkey} {w.url}" for i, w in enumerate(witnesses)]
    members = " ".join(f"w{i}" for i in range(len(witnesses)))
    return "\n".join([*lines, f"group witnesses {quorum} {members}", "quorum witnesses", ""])
