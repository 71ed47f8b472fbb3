"""`consent-ledger monitor` as a command: exit codes, reports, restarts, webhook, metrics; a running ledger too."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import unused_port

from ledger.config import Settings
from ledger.embedded.nats import Nats
from tests.e2e.test_monitor import a_log, another
from tests.harness import DEADLINE_SECONDS, Load, Process, found, until
from tests.logbuilder import LogBuilder, key, witness
from tests.logserver import LogServer, silent
from tests.witnesses import WitnessProcess, found_witnessed, policy_text


class Running:
    """A monitor in a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process, output: Path) -> None:
        self.process, self._output = process, output

    @property
    def said(self) -> str:
        return self._output.read_text()

    async def says(self, text: str) -> None:
        async def said() -> bool:
            assert self.process.returncode is None or text in self.said, self.said
            return text in self.said

        await until(said)

    async def end(self) -> int:
        return await asyncio.wait_for(self.process.wait(), DEADLINE_SECONDS)


class Command:
    """How it is called: `log` at `servers`, with the state in one place."""

    def __init__(self, directory: Path, log_vkey: object, urls: list[str]) -> None:
        self.directory, self.log_vkey, self.urls = directory, log_vkey, urls
        self.environ = {name: value for name, value in os.environ.items() if not name.startswith("LEDGER_")}

    async def start(self, *arguments: object) -> Running:
        output = self.directory / f"output-{len(list(self.directory.glob('output-*')))}"
        words = ["--log-vkey", self.log_vkey, "--state", self.directory / "state", *arguments]
        with output.open("wb") as file:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", "ledger", "monitor", *self.urls, *map(str, words)),
                stdout=file,
                stderr=file,
                env=self.environ,
            )
        return Running(process, output)

    async def run(self, *arguments: object) -> tuple[int, str]:
        running = await self.start(*arguments)
        return await running.end(), running.said

    @asynccontextmanager
    async def watching(self, *arguments: object) -> AsyncIterator[Running]:
        running = await self.start("--interval", "0.1", *arguments)
        try:
            yield running
        finally:
            if running.process.returncode is None:
                running.process.kill()
                await running.process.wait()


@pytest_asyncio.fixture
async def server() -> AsyncIterator[LogServer]:
    async with LogServer(a_log()) as running:
        yield running


@pytest.fixture
def log(server: LogServer) -> LogBuilder:
    assert server.log is not None
    return server.log


@pytest.fixture
def command(server: LogServer, log: LogBuilder, tmp_path: Path) -> Command:
    return Command(tmp_path, log.log_vkey, [server.url])


def report(said: str) -> Any:
    """The last line is the report; those before it are notices and log lines."""
    return json.loads(said.splitlines()[-1])


# --- one look ---------------------------------------------------------------------------------------------------------


async def test_a_sound_log_is_0(command: Command, log: LogBuilder) -> None:
    code, said = await command.run("--once", "--log-id", log.log_id.hex())
    assert code == 0, said
    assert "sound: every URL shows one log" in said
    assert f"size       302, root {log.checkpoint().body.split()[2].decode()}" in said
    assert "every entry judged" in said


async def test_a_fault_is_1_until_it_is_acknowledged(command: Command, server: LogServer, log: LogBuilder) -> None:
    assert (await command.run("--once"))[0] == 0
    server.log = another(log, 100)
    code, said = await command.run("--once", "--json")
    assert (code, report(said)["verdict"], report(said)["exitCode"]) == (1, "fault", 1)
    assert [fault["kind"] for fault in report(said)["faults"]] == ["fork"]
    server.log = log
    assert (await command.run("--once"))[0] == 1, "a fault stays one"
    code, said = await command.run("--acknowledge")
    assert (code, "acknowledged 1 faults" in said) == (0, True)
    assert (await command.run("--once"))[0] == 0


async def test_nobody_there_is_2(command: Command, server: LogServer) -> None:
    await server.stop()
    code, said = await command.run("--once", "--json")
    assert (code, report(said)["alarms"][0]["kind"]) == (2, "unreachable")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--log-id", "abc"), "64 hex digits"),
        (("--witness", "nonsense"), "vkey"),
        (("--witness", witness(), "--policy", "/dev/null"), "not both"),
        (("--policy", "/dev/null"), "no quorum line"),
        (("--policy", "/does/not/exist"), "No such file"),
        (("--webhook", "example.com"), "--webhook is"),
        (("--key-file", "/dev/null"), "one line"),
        (("http://h/?x",), "before any"),
    ],
)
async def test_what_it_cannot_make_sense_of_is_2_and_said(
    command: Command, arguments: tuple[object, ...], expected: str
) -> None:
    code, said = await command.run("--once", *arguments)
    assert (code, expected in said, "Traceback" in said) == (2, True, False), said


async def test_without_a_url_there_is_nothing_to_watch(command: Command) -> None:
    command.urls = []
    code, said = await command.run("--once")
    assert (code, "name at least one URL" in said) == (2, True)


async def test_a_policy_says_which_witnesses_count(
    command: Command, server: LogServer, log: LogBuilder, tmp_path: Path
) -> None:
    now = int(time.time())
    log = LogBuilder(genesis=False)
    log.now_ms = (now - 10_000) * 1000
    log.append(0, log.genesis_public())
    server.log, command.log_vkey = log, log.log_vkey
    policy = tmp_path / "policy"
    policy.write_text(
        f"log {log.log_vkey}\nwitness a {witness('w.example/a')}\nwitness b {witness('w.example/b')}\n"
        "group two all a b\nquorum two\n"
    )
    server.serve(log.checkpoint(cosigned=[("w.example/a", now)]))
    code, said = await command.run("--once", "--policy", policy)
    assert (code, "ALARM quorum" in said, "ALARM stale" in said) == (1, True, True), said
    server.serve(log.checkpoint(cosigned=[("w.example/a", now), ("w.example/b", now)]))
    code, said = await command.run("--once", "--policy", policy)
    assert code == 0, said


async def test_guarded_entries_are_read_with_a_key_that_no_process_list_shows(
    command: Command, server: LogServer, log: LogBuilder, tmp_path: Path
) -> None:
    async def guard(request: web.Request) -> web.StreamResponse:
        if request.headers.get("Authorization") != "Bearer sk_audit":
            return web.Response(status=401)
        return web.Response(body=server._read(request.match_info["path"]))

    server.lies = {"tile/entries/000": guard, "tile/entries/001.p/46": guard}
    assert "entries were not read" in (await command.run("--once"))[1]
    path = tmp_path / "key"
    path.write_text("sk_audit\n")
    assert "every entry judged" in (await command.run("--once", "--key-file", path))[1]
    log.event()
    server.lies = {"tile/entries/001.p/47": guard}
    command.environ["LEDGER_AUDIT_KEY"] = "sk_audit"
    code, said = await command.run("--once")
    assert (code, "every entry judged" in said, "sk_audit" in said) == (0, True, False)


# --- watching ---------------------------------------------------------------------------------------------------------


async def test_it_watches_until_it_is_told_to_stop(command: Command, log: LogBuilder) -> None:
    async with command.watching() as running:
        await running.says("size 302, from 0")
        log.events(10)
        await running.says("size 312, from 302")
        running.process.send_signal(signal.SIGTERM)
        assert await running.end() == 0


async def test_a_fault_ends_it_with_1(command: Command, server: LogServer, log: LogBuilder) -> None:
    async with command.watching() as running:
        await running.says("size 302")
        server.log = another(log, 100)
        assert await running.end() == 1
        assert "FAULT fork" in running.said
    async with command.watching() as again:
        assert await again.end() == 1, "and so it is when it is started again"
        assert "found before and not acknowledged" in again.said


async def test_it_may_be_told_to_keep_going(command: Command, server: LogServer, log: LogBuilder) -> None:
    async with command.watching("--keep-going") as running:
        await running.says("size 302")
        server.log = another(log, 100)
        await running.says("FAULT fork")
        server.log = log
        log.event()
        await running.says("size 303")
        running.process.send_signal(signal.SIGINT)
        assert await running.end() == 1
        assert running.said.count("FAULT fork") == 1


async def test_a_log_that_is_away_is_waited_for(command: Command, server: LogServer, log: LogBuilder) -> None:
    async with command.watching() as running:
        await running.says("size 302")
        await server.stop()
        log.event()
        await asyncio.sleep(0.5)
        await server.start()
        await running.says("size 303")


async def test_killed_and_started_again_it_goes_on_where_it_was(
    command: Command, server: LogServer, log: LogBuilder
) -> None:
    async with command.watching() as running:
        await running.says("size 302")
        running.process.kill()
    server.requests.clear()
    log.event()
    async with command.watching() as running:
        await running.says("size 303, from 302")
    assert server.requests["tile/entries/000"] == 0


async def test_a_silent_server_does_not_keep_it_from_ending(command: Command, server: LogServer) -> None:
    server.lies = {"checkpoint": silent()}
    async with command.watching() as running:

        async def asked() -> bool:
            return server.requests["checkpoint"] > 0

        await until(asked)
        running.process.send_signal(signal.SIGTERM)
        assert await running.end() == 0


async def test_two_monitors_do_not_share_a_state(command: Command) -> None:
    async with command.watching() as running:
        await running.says("size 302")
        code, said = await command.run("--once")
        assert (code, "another monitor" in said) == (2, True)


# --- telling ----------------------------------------------------------------------------------------------------------


class Receiver:
    """A webhook that answers with these statuses, then with 204; what it took is in `took`."""

    def __init__(self) -> None:
        self.port = unused_port()
        self.statuses: list[int] = []
        self.calls: list[Any] = []
        self.took: list[Any] = []
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook?secret=1"

    async def _take(self, request: web.Request) -> web.Response:
        notice = await request.json()
        status = self.statuses.pop(0) if self.statuses else 204
        self.calls.append(notice)
        if status == 204:
            self.took.append(notice)
        return web.Response(status=status)

    async def start(self) -> None:
        app = web.Application()
        app.router.add_post("/hook", self._take)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()

    async def has(self, count: int) -> None:
        async def has() -> bool:
            return len(self.took) >= count

        await until(has)

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()


@pytest_asyncio.fixture
async def receiver() -> AsyncIterator[Receiver]:
    made = Receiver()
    yield made
    await made.stop()


async def test_a_webhook_that_is_down_is_told_when_it_is_up_and_nobody_waits_for_it(
    command: Command, server: LogServer, log: LogBuilder, receiver: Receiver
) -> None:
    async with command.watching("--keep-going", "--webhook", receiver.url) as running:
        await running.says("size 302")
        server.log = another(log, 100)
        await running.says("FAULT fork")
        await running.says("the webhook was not told")
        server.log = log
        log.event()
        await running.says("size 303")
        receiver.statuses = [500, 302]
        await receiver.start()
        await receiver.has(1)
        notice = receiver.took[0]
        assert (notice["event"], notice["kind"], notice["rule"], notice["origin"]) == ("fault", "fork", 4, log.origin)
        assert [call["id"] for call in receiver.calls] == [notice["id"]] * 3
        assert "secret" not in running.said


async def test_what_a_killed_monitor_had_still_to_tell_is_told_by_the_next(
    command: Command, server: LogServer, log: LogBuilder, receiver: Receiver
) -> None:
    command.environ["LEDGER_MONITOR_WEBHOOK"] = receiver.url
    async with command.watching("--keep-going") as running:
        await running.says("size 302")
        server.log = another(log, 100)
        await running.says("the webhook was not told")
        running.process.kill()
    await receiver.start()
    code, _ = await command.run("--once")
    assert code == 1
    assert [notice["kind"] for notice in receiver.took] == ["fork"]


async def test_an_alarm_is_told_when_it_begins_and_when_it_is_over(
    command: Command, server: LogServer, receiver: Receiver
) -> None:
    await receiver.start()
    await server.stop()
    await command.run("--once", "--webhook", receiver.url)
    await server.start()
    await command.run("--once", "--webhook", receiver.url)
    assert [(n["event"], n["kind"]) for n in receiver.took] == [("alarm", "unreachable"), ("over", "unreachable")]


async def test_metrics_tell_size_and_faults(command: Command, server: LogServer, log: LogBuilder) -> None:
    port = unused_port()
    async with command.watching("--keep-going", "--metrics-port", port) as running:
        await running.says("size 302")
        server.log = another(log, 100)
        await running.says("FAULT fork")
        async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/metrics") as response:
            lines = (await response.text()).splitlines()
    label = f'origin="{log.origin}"'
    assert f"consent_ledger_monitor_size_entries{{{label}}} 302.0" in lines
    assert f'consent_ledger_monitor_faults{{kind="fork",{label}}} 1.0' in lines
    assert f'consent_ledger_monitor_faults{{kind="tiles",{label}}} 0.0' in lines


# --- a running ledger -------------------------------------------------------------------------------------------------


@pytest.mark.slow
async def test_a_running_ledger_is_watched_under_load_at_two_of_its_servers(
    settings: Settings, nats: Nats, tmp_path: Path
) -> None:
    site = await found(settings)
    settings = replace(settings, nats_url=nats.url)
    async with Process(settings, tmp_path) as one, Process(settings, tmp_path) as two:
        urls = [f"{server.url}/logs/{site.site}" for server in (one, two)]
        command = Command(tmp_path, site.log_vkey, urls)
        command.environ["LEDGER_AUDIT_KEY"] = site.secret
        async with command.watching("--log-id", site.log_id) as running:
            async with Load([one.url, two.url], site) as load:
                await load.more(300)
                await one.kill()
                await load.more(100)
                await one.start()
                await load.more(100)
            size = len(load.receipts)

            async def caught_up() -> bool:
                assert running.process.returncode is None, running.said
                state = next((tmp_path / "state").glob("*/state.json"), None)
                return state is not None and json.loads(state.read_text())["size"] > size

            await until(caught_up)
            running.process.send_signal(signal.SIGTERM)
            assert await running.end() == 0, running.said
            assert "FAULT" not in running.said
            assert "entries and tiles verified" in running.said
        code, said = await command.run("--once", "--log-id", site.log_id)
        assert code == 0, said
        assert "every entry judged" in said
        del command.environ["LEDGER_AUDIT_KEY"]
        code, said = await command.run("--once", "--log-id", site.log_id, "--state", tmp_path / "stranger")
        assert code == 0, said
        assert "entries were not read" in said


@pytest.mark.slow
async def test_the_witnesses_of_a_running_ledger_are_watched_with_it(settings: Settings, tmp_path: Path) -> None:
    one, two = [await WitnessProcess.create(tmp_path / f"w{i}", f"witness.example.org/w{i}") for i in (1, 2)]
    async with one, two:
        policy = tmp_path / "policy"
        policy.write_text(policy_text("all", one, two))
        settings = replace(settings, witness_policy=policy)
        site = await found_witnessed(settings, one, two)
        async with Process(settings, tmp_path) as server:
            command = Command(tmp_path, site.log_vkey, [f"{server.url}/logs/{site.site}"])
            arguments = ("--once", "--policy", policy, "--max-age", 600)
            code, said = await command.run(*arguments)
            assert code == 0, said
            await two.stop()
            async with Load([server.url], site, clients=1) as load:
                await load.more(5)

            async def alarms() -> bool:
                code, said = await command.run(*arguments)
                assert "FAULT" not in said
                return code == 1 and "ALARM quorum" in said and "ALARM stale" not in said

            await until(alarms)
            await two.start()

            async def is_over() -> bool:
                return (await command.run(*arguments))[0] == 0

            await until(is_over)


async def test_a_stranger_with_the_log_key_alone_cannot_pass_off_another_log(
    command: Command, server: LogServer, log: LogBuilder
) -> None:
    """A whole new log under the same origin, with the stolen log key and a root of the thief's own."""
    assert (await command.run("--once"))[0] == 0
    thief = LogBuilder(genesis=False)
    thief.root, thief.ingest = key("thief's root"), key("thief's ingest")
    thief.append(0, thief.genesis_public())
    thief.policy()
    thief.events(400)
    server.log = thief
    code, said = await command.run("--once")
    assert (code, "FAULT fork" in said) == (1, True)
