"""A NATS server of our own with JetStream, every message synced to disk. Nothing waits for it but who wants to."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import msgspec

from ledger import config
from ledger.core.errors import ConfigInvalid
from ledger.embedded.binaries import find_nats
from ledger.embedded.child import Child, Step

USER = "ledger"
_PAUSE_SECONDS = 0.05


class _Greeting(msgspec.Struct, frozen=True):
    """What we need of the INFO line that a server sends first."""

    server_name: str


def nats_url(password: str, port: int) -> str:
    """Of the server on this machine, with its one user."""
    return f"nats://{USER}:{quote(password, safe='')}@127.0.0.1:{port}"


@dataclass(eq=False)
class Nats:
    """One server over the store in `data`. `config` is written at every start, mode 0600: it holds the password."""

    data: Path
    port: int
    password: str = field(repr=False)
    config: Path
    log: Path
    run_dir: Path
    child: Child | None = field(default=None, init=False, repr=False)
    _name: str = field(default="", init=False, repr=False)

    @property
    def url(self) -> str:
        return nats_url(self.password, self.port)

    async def start(self) -> None:
        """Return at once; `ready` waits. Call it in the main thread."""
        binary = find_nats()
        self.data.mkdir(mode=0o700, parents=True, exist_ok=True)
        # A name of this start alone: an open port does not prove that it is this server, nor does the store.
        self._name = f"consent-ledger-{secrets.token_hex(8)}"
        self._write_config()
        self.child = Child(
            name="nats",
            command=[str(binary), "--config", str(self.config), "--name", self._name],
            log=self.log,
            environ={"PATH": os.environ.get("PATH", os.defpath)},
            run_dir=self.run_dir,
        )
        self.child.start()

    async def ready(self) -> None:
        """Return when this very server answers; `ConfigInvalid` if it ended or takes too long."""
        deadline = time.monotonic() + config.NATS_START_TIMEOUT_SECONDS
        while not await self._answers():
            if self.child is None or self.child.poll() is not None or time.monotonic() > deadline:
                raise ConfigInvalid(f"NATS does not start:\n{self.child.log_tail() if self.child else ''}")
            await asyncio.sleep(_PAUSE_SECONDS)

    async def stop(self) -> None:
        if self.child is not None:
            await self.child.stop(Step(signal.SIGTERM, config.NATS_SHUTDOWN_SECONDS))

    def _write_config(self) -> None:
        settings = {  # JSON is a subset of the server's format
            "host": "127.0.0.1",
            "port": self.port,
            "jetstream": {"store_dir": str(self.data), "sync_interval": "always"},
            "authorization": {"user": USER, "password": self.password},
        }
        unfinished = self.config.with_name(self.config.name + ".unfinished")
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(settings)))
        unfinished.replace(self.config)

    async def _answers(self) -> bool:
        writer: asyncio.StreamWriter | None = None
        try:
            async with asyncio.timeout(config.NATS_GREETING_TIMEOUT_SECONDS):
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
                line = await reader.readline()
            return msgspec.json.decode(line.removeprefix(b"INFO "), type=_Greeting).server_name == self._name
        except (OSError, TimeoutError, ValueError, msgspec.MsgspecError):
            return False
        finally:
            if writer is not None:
                writer.close()
                with suppress(OSError):
                    await writer.wait_closed()
