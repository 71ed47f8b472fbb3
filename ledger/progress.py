"""Progress of long commands: a bar on a terminal, nothing elsewhere (a log file wants no bars)."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Progress = Callable[[int, int], None]
"""(done so far, of how many)"""


@contextmanager
def bar(what: str, unit: str) -> Iterator[Progress]:
    """A progress bar on stderr; it vanishes when the work is done."""
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich import progress as rich  # noqa: PLC0415 - a service that exports has no terminal
    from rich.console import Console  # noqa: PLC0415

    columns = (
        rich.TextColumn("{task.description}"),
        rich.BarColumn(),
        rich.MofNCompleteColumn(),
        rich.TextColumn(unit + " {task.fields[rate]}"),
        rich.TimeRemainingColumn(),
    )
    with rich.Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task(what, total=None, rate="")

        def progress(done: int, total: int) -> None:
            speed = shown.tasks[0].speed
            shown.update(task, completed=done, total=total, rate=f"{speed:,.0f}/s" if speed else "")

        yield progress
