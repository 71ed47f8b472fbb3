"""`consent-ledger up`: Postgres, NATS and the service with the example sites, as one process tree that ends as one.

Postgres, schema and sites come before the service; NATS is started beside them and awaited by nobody. What ends is
started again. Ctrl-C and SIGTERM stop the service first and Postgres last; a killed `up` takes everything with it.
"""

from __future__ import annotations

import asyncio
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import msgspec

from ledger import config
from ledger.administration import Who, actor_here
from ledger.backup.marker import refuse_unfinished_directory
from ledger.core.errors import ConfigInvalid
from ledger.credentials import Credentials, write_credentials
from ledger.embedded.child import Child
from ledger.embedded.found import found_examples, prepare_database
from ledger.embedded.installation import DataDirectory, Installation, backups_told, unheeded
from ledger.embedded.ports import HOST, free_port, is_free
from ledger.embedded.records import end_orphans
from ledger.embedded.screen import Screen
from ledger.embedded.server import Server
from ledger.keys.master import rotate_master

_WATCH_SECONDS = 0.1
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Part(Protocol):
    """Something that runs as a child."""

    child: Child | None

    async def start(self) -> None: ...
    async def stop(self) -> None: ...


def up(data: Path, port: int) -> None:
    """Run until a signal; `ConfigInvalid` tells why it cannot. Nothing that was started here survives the return."""
    asyncio.run(_up(DataDirectory(data), port, Screen()))


async def _up(directory: DataDirectory, port: int, screen: Screen) -> None:
    with directory.locked():
        refuse_unfinished_directory(directory.path)
        tree = Tree(directory, port, screen)
        stopping = asyncio.Event()

        def stop() -> None:
            if stopping.is_set():
                tree.hurry()
            stopping.set()

        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # ignored: started by nohup
                loop.add_signal_handler(number, stop)
        waiting = asyncio.create_task(stopping.wait(), name="wait for a signal")
        running = asyncio.create_task(tree.run(), name="run")
        try:
            await asyncio.wait((waiting, running), return_when=asyncio.FIRST_COMPLETED)
            if stopping.is_set():
                screen.stopping()
        finally:
            for task in (waiting, running):
                task.cancel()
            await asyncio.wait((waiting, running))
            await tree.stop()
        if not running.cancelled():
            await running  # it ends by itself only by failing
        screen.stopped()


class Tree:
    """The children of one `up`."""

    def __init__(self, directory: DataDirectory, port: int, screen: Screen) -> None:
        self._directory = directory
        self._port = port
        self._screen = screen
        self._parts: dict[str, Part] = {}

    async def run(self) -> None:
        """Start everything, tell about it, and keep it running until cancelled."""
        directory, screen = self._directory, self._screen
        installation = directory.installation()
        first = not installation.sites
        screen.starting(directory.path, first=first)
        for name in end_orphans(directory.run):
            screen.note(f"{name} of an earlier run was still there and has been ended")
        if self._port and not is_free(self._port):
            raise ConfigInvalid(f"port {self._port} of {HOST} is in use: stop what uses it, or choose one with --port")
        for name in unheeded():
            screen.note(f"{name} is set, and not heeded: an `up` has settings of its own (`serve` takes it)")
        installation = self._keep_told(installation)
        nats = self._directory.nats_server(installation)
        postgres = self._directory.postgres_server(installation)
        await self._start("NATS", nats)
        await postgres.initialise()
        await self._start("PostgreSQL", postgres)
        await prepare_database(postgres, installation.service_password)
        if installation.next_master_secret:
            who = Who(actor_here(), "operator")
            done = await rotate_master(directory.settings(), directory.admin_database_url(), who)
            installation = directory.take_next_master()
            screen.note(f"the master secret was replaced: everything is under version {done.version} now")
        settings = replace(directory.settings(), port=self._port or free_port(), demo=directory.credentials)
        installation = await found_examples(directory, installation, settings)
        server = Server(settings, directory.log("serve"), directory.run)
        directory.credentials.unlink(missing_ok=True)  # its presence tells that the service answers
        await self._start("the service", server)
        await server.ready()
        credentials = Credentials(server.base_url, settings.database_url, nats.url, installation.sites)
        write_credentials(directory.path, credentials)
        screen.ready(directory, server.base_url, postgres.port, nats.port, installation.sites)
        if first:
            screen.root_keys(directory)
        async with asyncio.TaskGroup() as group:
            for name, part in self._parts.items():
                group.create_task(self._keep(name, part), name=f"keep {name}")

    async def stop(self) -> None:
        """Whoever needs another first, each within a bounded time."""
        for name in ("the service", "NATS", "PostgreSQL"):
            if name in self._parts:
                await self._parts[name].stop()

    def hurry(self) -> None:
        """End everything at once, as if `up` itself had been killed: what was answered 201 is on disk."""
        for part in self._parts.values():
            if part.child is not None and part.child.running:
                part.child.send(part.child.death_signal)

    async def _start(self, name: str, part: Part) -> None:
        self._parts[name] = part
        await part.start()

    async def _keep(self, name: str, part: Part) -> None:
        """Start a part again whenever it ends."""
        attempt = 0
        while True:
            began = time.monotonic()
            while part.child is not None and part.child.running:  # noqa: ASYNC110 - waitpid has no event
                await asyncio.sleep(_WATCH_SECONDS)
            if time.monotonic() - began >= config.RESTART_STEADY_SECONDS:
                attempt = 0
            pauses = config.RESTART_PAUSES_SECONDS
            pause = pauses[min(attempt, len(pauses) - 1)]
            attempt += 1
            self._screen.note(f"{name} ended ({part.child.ending if part.child else 'not started'}): starting it again")
            await asyncio.sleep(pause)
            try:
                await part.start()
            except (ConfigInvalid, OSError) as error:
                self._screen.note(f"{name} does not start: {error}")

    def _keep_told(self, installation: Installation) -> Installation:
        """The ports of the last run where they are free, so that URLs stay valid; and where backups are, for commands
        that have no word of it in their own environment."""
        backup_dir, backup_keep = backups_told()
        kept = msgspec.structs.replace(
            installation,
            backup_dir=backup_dir,
            backup_keep=backup_keep,
            postgres_port=free_port(installation.postgres_port),
            nats_port=free_port(installation.nats_port),
        )
        if kept != installation:
            self._directory.save(kept)
        return kept
