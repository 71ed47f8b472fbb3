"""What one reader cannot find alone, a monitor does: it remembers, and it compares what several readers are shown.

A server that lies differently to each reader (the class of immudb's linear-fake) has to keep its lies apart for ever.
Two checkpoints of one log that cannot both be true, signed by the log's key, convict it, and are kept as evidence.
"""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from ledger.core.errors import BadSignature
from ledger.core.note import TYPE_ED25519, parse_checkpoint, parse_vkey
from ledger.monitor.command import monitor_command
from tests.adversary.attacks import ATTACKS, Attack
from tests.adversary.gallery import Gallery, Shown
from tests.adversary.test_attacks import nothing
from tests.adversary.victim import SIZE

A_CHECKPOINT_IS_NEEDED = [one for one in ATTACKS.values() if one.by and one.rules == {4}]


class LogServer:
    """A log's server that shows one bundle, and later perhaps another."""

    def __init__(self) -> None:
        self.bundle = Path()
        shown = self

        class Handler(http.server.SimpleHTTPRequestHandler):
            def __init__(self, *arguments: Any) -> None:
                super().__init__(*arguments, directory=str(shown.bundle))

            def log_message(self, format: str, *arguments: object) -> None:
                """Nothing."""

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http.server_address[1]}"


@pytest.fixture
def servers() -> Iterator[list[LogServer]]:
    made = [LogServer(), LogServer()]
    threads = [threading.Thread(target=server.http.serve_forever, args=(0.01,)) for server in made]
    for thread in threads:
        thread.start()
    yield made
    for server, thread in zip(made, threads, strict=True):
        server.http.shutdown()
        thread.join()
        server.http.server_close()


Look = Callable[..., dict[str, Any]]


@pytest.fixture
def look(servers: list[LogServer], honest_view: Shown, tmp_path: Path) -> Look:
    """One look of `consent-ledger monitor` at as many servers as there are bundles; what it keeps, by name."""

    def once(*bundles: Path, state: str = "state") -> dict[str, Any]:
        urls = []
        for server, bundle in zip(servers, bundles, strict=False):
            server.bundle = bundle
            urls.append(server.url)
        vkey = honest_view.auditor.log_vkey
        arguments = [*urls, "--log-vkey", vkey, "--state", str(tmp_path / state), "--once", "--json"]
        result = CliRunner().invoke(monitor_command, arguments)
        report: dict[str, Any] = json.loads(result.stdout.strip().splitlines()[-1])
        assert result.exit_code == report["exitCode"], result.output
        return report

    return once


def convicts(state: Path, report: dict[str, Any], vkey: str) -> bool:
    """Whether the evidence kept of a fork is two heads that the log's key signed."""
    key = parse_vkey(vkey, TYPE_ED25519)
    for fault in report["faults"]:
        if fault["kind"] != "fork":
            continue
        notes = [parse_checkpoint(path.read_bytes()) for path in state.rglob(f"{fault['evidence']}/*.checkpoint")]
        try:
            return len(notes) == 2 and all(note.signed_by(key) for note in notes) and notes[0].root != notes[1].root
        except BadSignature:
            return False
    return False


@pytest.fixture
def honest_view(gallery: Gallery) -> Shown:
    return gallery("honest", nothing)


def test_the_honest_log_is_sound_from_wherever_it_is_seen(look: Look, honest_view: Shown) -> None:
    report = look(honest_view.bundle, honest_view.bundle)
    assert (report["verdict"], report["size"]) == ("sound", SIZE)
    again = look(honest_view.bundle)
    assert (again["verdict"], again["faults"]) == ("sound", [])


@pytest.mark.parametrize("attack", A_CHECKPOINT_IS_NEEDED, ids=lambda attack: attack.name)
def test_a_monitor_that_was_here_before_finds_a_log_that_was_rewritten(
    attack: Attack, gallery: Gallery, look: Look, honest_view: Shown, tmp_path: Path
) -> None:
    look(honest_view.bundle)
    report = look(gallery(attack.name, attack.do).bundle)
    assert report["exitCode"] == 1
    if len(gallery.attacked[attack.name].entries) < SIZE:  # whether it is a beginning of what was, nobody can tell
        assert [alarm["kind"] for alarm in report["alarms"]] == ["rewound"]
    else:
        assert {fault["kind"] for fault in report["faults"]} == {"fork"}
        assert convicts(tmp_path, report, honest_view.auditor.log_vkey)


@pytest.mark.parametrize("name", ["a_fork", "an_entry_dropped_without_a_trace", "entries_reordered_without_a_trace"])
def test_a_monitor_finds_a_server_that_lies_differently_to_each_reader(
    name: str, gallery: Gallery, look: Look, honest_view: Shown, tmp_path: Path
) -> None:
    """Each reader is shown a log that is sound; neither has seen it before."""
    other = gallery(name, ATTACKS[name].do)
    for view in (honest_view, other):
        assert look(view.bundle, state=view.bundle.parent.name)["verdict"] == "sound"
    report = look(honest_view.bundle, other.bundle)
    assert {fault["kind"] for fault in report["faults"]} == {"fork"}
    assert convicts(tmp_path, report, honest_view.auditor.log_vkey)


def test_a_monitor_finds_a_chain_beside_the_tree(gallery: Gallery, look: Look) -> None:
    name = "a_chain_beside_the_tree"
    report = look(gallery(name, ATTACKS[name].do).bundle)
    assert {(fault["kind"], fault["rule"]) for fault in report["faults"]} == {("entries", 3)}


def test_a_monitor_finds_tiles_that_do_not_match(gallery: Gallery, look: Look) -> None:
    name = "a_tile_that_does_not_match"
    report = look(gallery(name, ATTACKS[name].do).bundle)
    assert {(fault["kind"], fault["rule"]) for fault in report["faults"]} == {("tiles", 2)}
