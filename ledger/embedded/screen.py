"""What `up` tells the person at the terminal: what runs where, a page to open, commands to try."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Mapping
from contextlib import suppress
from itertools import chain, count
from pathlib import Path

from rich.console import Console
from rich.text import Text

from ledger import __version__
from ledger.credentials import SiteKeys
from ledger.embedded.installation import DataDirectory

DEFAULT_DATA = Path(".ledger")
SCRIPT = "consent-ledger"


class Screen:
    """Lines on standard output, coloured on a terminal, plain elsewhere. A reader who went away stops nothing."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False, soft_wrap=True)

    def starting(self, path: Path, *, first: bool) -> None:
        self._say(("Consent ledger", "bold"), f" {__version__}, data in {shown(path)}")
        self._say(
            "Starting", " for the first time: making a database, keys and three example sites" if first else "", " …"
        )

    def ready(
        self,
        directory: DataDirectory,
        base_url: str,
        postgres_port: int,
        nats_port: int,
        sites: Mapping[str, SiteKeys],
    ) -> None:
        """The one screen a newcomer reads. Every command on it works as it stands."""
        log = shown(directory.path / "log")
        self._say()
        self._say(("  service     ", "dim"), f"{base_url}")
        self._say(("  PostgreSQL  ", "dim"), f"127.0.0.1:{postgres_port}")
        self._say(("  NATS        ", "dim"), f"127.0.0.1:{nats_port}")
        self._say(("  sites       ", "dim"), ", ".join(sites))
        self._say(("  API keys    ", "dim"), f"{shown(directory.credentials)}   ", ("logs ", "dim"), log)
        self._say()
        self._say("Open ", (f"{base_url}/", "bold underline"), " and play a visitor. Or try, in another terminal:")
        self._say()
        for command in suggestions(directory, sites):
            self._say("  ", (command, "cyan"))
        self._say()
        self._say("Ctrl-C stops all of it and keeps the data.")

    def root_keys(self, directory: DataDirectory) -> None:
        """Once, when they were made."""
        program = " ".join(shlex.quote(word) for word in program_words())
        data = "" if directory.path == DEFAULT_DATA.absolute() else f" --data {shlex.quote(shown(directory.path))}"
        self._say()
        self._say("Each site got a root key, ", (f"{shown(directory.keys)}/SITE/root.key", "bold"), ": who has it can")
        self._say("take the log over, and only key changes need it. Where it is for real, take it offline now:")
        self._say("  ", (f"{program} key take-offline SITE FILE{data}", "cyan"))

    def note(self, text: str) -> None:
        self._say(text)

    def stopping(self) -> None:
        self._say("Stopping … (again Ctrl-C: at once; nothing that was confirmed is lost)")

    def stopped(self) -> None:
        self._say("Stopped.")

    def _say(self, *parts: str | tuple[str, str]) -> None:
        with suppress(OSError):
            self._console.print(Text.assemble(*parts))


def suggestions(directory: DataDirectory, sites: Mapping[str, SiteKeys]) -> list[str]:
    """Three commands: a day of visitors, their log in a directory, and its audit."""
    site = next(iter(sites))
    names = chain(["bundle"], (f"bundle-{number}" for number in count(2)))
    bundle = next(name for name in names if not Path(name).exists())  # `export` does not write into what is there
    program = " ".join(shlex.quote(word) for word in program_words())
    data = "" if directory.path == DEFAULT_DATA.absolute() else f" --data {shlex.quote(shown(directory.path))}"
    return [
        f"{program} simulate {site} --visitors 200{data}",
        f"{program} export {site} {bundle}{data}",
        f"{program} verify {bundle} --log-vkey {shlex.quote(sites[site].log_vkey)}",
    ]


def program_words() -> list[str]:
    """How a person calls this same installation: by name where PATH finds it, else by the script's path."""
    script = Path(sys.executable).with_name(SCRIPT)
    on_path = shutil.which(SCRIPT)
    if on_path is not None and Path(on_path).resolve() == script.resolve():
        return [SCRIPT]
    if script.is_file():
        return [shown(script) if os.sep in shown(script) else f"./{SCRIPT}"]
    return [shown(Path(sys.executable)), "-m", "ledger"]


def shown(path: Path) -> str:
    """Relative to where we are, if it lies below: shorter, and right in a terminal that stands here."""
    with suppress(ValueError):
        return str(path.relative_to(Path(os.getcwd())))
    return str(path)
