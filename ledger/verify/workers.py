"""Processes that audit chunks: as many as there are cores, started for large logs only, gone when the audit ends.

Each has a pipe of its own and one chunk at a time, so one that is killed is noticed at once by whoever waits for it,
and one whose parent was killed reads the end of its pipe.
"""

from __future__ import annotations

import gc
import multiprocessing
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import NamedTuple

from ledger.config import VERIFY_CHUNKS_AHEAD, VERIFY_SMALL_LOG_ENTRIES
from ledger.core.chunk import Chunk, Findings, audit_chunk
from ledger.core.citations import Outlines


class Workers(NamedTuple):
    """`submit` begins a chunk and gives a function that waits for its findings; `ahead` chunks may be in flight."""

    submit: Callable[[Chunk], Callable[[], Findings]]
    ahead: int


@contextmanager
def open_workers(processes: int, entries: int) -> Iterator[Workers]:
    """Workers for a log of so many entries. Spawned, not forked: the caller may have threads.

    `submit`, or what it gives, raises OSError if a worker was killed.
    """
    if processes == 1 or entries <= VERIFY_SMALL_LOG_ENTRIES:
        outlines = Outlines()
        yield Workers(lambda chunk: lambda: audit_chunk(chunk, outlines), 0)
        return
    idle: SimpleQueue[Connection] = SimpleQueue()

    def ask(chunk: Chunk) -> Findings:
        connection = idle.get()
        try:
            connection.send(chunk)
            findings: Findings = connection.recv()
        except (EOFError, OSError) as error:
            raise OSError("a worker process was killed; is there enough memory?") from error
        finally:
            idle.put(connection)
        return findings

    with ExitStack() as stack:
        with _ctrl_c_waits():
            for _ in range(processes):
                idle.put(stack.enter_context(_worker()))
        threads = ThreadPoolExecutor(processes, "verify")
        stack.callback(threads.shutdown, cancel_futures=True)
        yield Workers(lambda chunk: threads.submit(ask, chunk).result, processes * VERIFY_CHUNKS_AHEAD)


@contextmanager
def _worker() -> Iterator[Connection]:
    """One process, and our end of its pipe. Closing it is the process's end."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs,), daemon=True)
    process.start()
    theirs.close()  # or its end would never be seen
    try:
        yield ours
    finally:
        ours.close()
        process.join()


def _work(connection: Connection) -> None:
    """A worker's life: to the end of its pipe, or until that breaks."""
    gc.disable()  # nothing here makes cycles, and the tuples of each chunk would set it off again and again
    outlines = Outlines()
    with suppress(EOFError, ConnectionError):
        while True:
            chunk: Chunk = connection.recv()
            connection.send(audit_chunk(chunk, outlines))


@contextmanager
def _ctrl_c_waits() -> Iterator[None]:
    """A terminal sends Ctrl-C to the whole group, and it is the parent's to handle: workers inherit it blocked.

    The tracker has to run before, for starting it unblocks the signal.
    """
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
