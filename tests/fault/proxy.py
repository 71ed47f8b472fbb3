"""A TCP proxy between server and Postgres that loses what a network loses: requests, answers, or everything."""

from __future__ import annotations

import asyncio
import contextlib
from enum import Enum


class Loss(Enum):
    NONE = "forward everything"
    ANSWER = "forward the request, swallow the answer and break the connection"
    REQUEST = "break the connection before the request arrives"
    SILENCE = "forward the request, swallow the answer and keep the connection open"


class Proxy:
    """Use `async with Proxy(host, port) as proxy`; `lose_next` applies to the next request after it is set, once."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._loss = Loss.NONE
        self._marker = b""
        self.lost = 0
        self.port = 0
        self._tasks: set[asyncio.Task[None]] = set()

    def lose_next(self, loss: Loss, marker: bytes) -> None:
        """Only a request that holds `marker` (or follows it on the connection) is hit."""
        self._loss, self._marker = loss, marker

    async def __aenter__(self) -> Proxy:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            server_reader, server_writer = await asyncio.open_connection(*self._target)
        except OSError:
            writer.close()
            return
        swallow: list[Loss] = []
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._requests(reader, server_writer, swallow))
                group.create_task(self._answers(server_reader, writer, swallow))
        except* (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            for each in (writer, server_writer):
                with contextlib.suppress(ConnectionError, RuntimeError):
                    each.transport.abort()

    async def _requests(self, reader: asyncio.StreamReader, server: asyncio.StreamWriter, swallow: list[Loss]) -> None:
        while data := await reader.read(65_536):
            if self._loss is not Loss.NONE and self._marker in data:
                loss, self._loss = self._loss, Loss.NONE
                self.lost += 1
                if loss is Loss.REQUEST:
                    raise ConnectionResetError
                swallow.append(loss)
            server.write(data)
            await server.drain()
        raise ConnectionResetError

    async def _answers(self, server: asyncio.StreamReader, writer: asyncio.StreamWriter, swallow: list[Loss]) -> None:
        while data := await server.read(65_536):
            if swallow:
                if swallow[0] is Loss.ANSWER:
                    raise ConnectionResetError
                continue
            writer.write(data)
            await writer.drain()
        raise ConnectionResetError
