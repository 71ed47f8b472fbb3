"""`consent-ledger up` as a person runs it: a terminal, Ctrl-C, killed processes, and starting again."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from ledger.embedded.ports import free_port

SITE = "weco.nexaxt.com"
START_SECONDS = 60.0
COMMAND = [sys.executable, "-m", "ledger", "up"]


class Up:
    """One `up` in a terminal of its own."""

    def __init__(self, data: Path, port: int) -> None:
        self.data = data
        self.port = port
        self.started = time.time()
        self._controller, terminal = pty.openpty()
        self.process = subprocess.Popen(
            [*COMMAND, "--data", str(data), "--port", str(port)],
            stdin=terminal, stdout=terminal, stderr=terminal, start_new_session=True, cwd=data.parent,
            preexec_fn=_take_terminal,  # noqa: PLW1509 - the tests here have one thread
        )  # fmt: skip
        os.close(terminal)
        os.set_blocking(self._controller, False)
        self._text = ""
        self.family: set[psutil.Process] = set()

    def ready(self) -> dict[str, Any]:
        """The credentials of this start."""
        path = self.data / "credentials.json"
        wait(lambda: (path.exists() and path.stat().st_mtime >= self.started) or self._ended(), START_SECONDS)
        self.remember_family()
        credentials: dict[str, Any] = json.loads(path.read_bytes())
        return credentials

    def remember_family(self) -> None:
        self.family |= {psutil.Process(self.process.pid), *psutil.Process(self.process.pid).children(recursive=True)}

    def text(self) -> str:
        """Everything on the screen so far, without colours."""
        try:
            while chunk := os.read(self._controller, 65_536):
                self._text += chunk.decode()
        except OSError:  # nothing more now, or the terminal is closed
            pass
        return re.sub(r"\x1b\[[0-9;]*m", "", self._text)

    def says(self, words: str, seconds: float = START_SECONDS) -> None:
        wait(lambda: words in self.text() or self._ended(), seconds)
        assert words in self.text()

    def press_ctrl_c(self) -> int:
        self.remember_family()
        os.write(self._controller, b"\x03")
        return self.process.wait(timeout=120)

    def part(self, *words: str) -> psutil.Process:
        """The child whose command line holds the words."""
        children = psutil.Process(self.process.pid).children()
        return next(child for child in children if set(words) <= set(child.cmdline()))

    def left(self) -> list[str]:
        """What of it still runs; a process that waits to be reaped by init does not."""
        return [name for process in self.family if (name := _command(process))]

    def close(self) -> None:
        self.text()
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._controller)

    def _ended(self) -> bool:
        if self.process.poll() is not None:
            raise AssertionError(f"up ended with {self.process.returncode}:\n{self.text()}")
        return False


def _command(process: psutil.Process) -> str:
    try:
        alive = process.is_running() and process.status() != psutil.STATUS_ZOMBIE
        return " ".join(process.cmdline()) if alive else ""
    except psutil.Error:
        return ""


def _take_terminal() -> None:
    """Make standard input the controlling terminal, so that ^C there becomes SIGINT for its foreground group."""
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def wait(condition: Callable[[], bool], seconds: float = 15.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.02)


def call(credentials: dict[str, Any], method: str, path: str, *, visitor: str = "", body: Any = None) -> Any:
    request = urllib.request.Request(f"{credentials['base_url']}/v1/sites/{SITE}/{path}", method=method)
    request.add_header("Authorization", f"Bearer {credentials['sites'][SITE]['publishable']}")
    request.add_header("Content-Type", "application/json")
    if visitor:
        request.add_header("Consent-Visitor", visitor)
    with urllib.request.urlopen(request, None if body is None else json.dumps(body).encode(), timeout=20) as response:
        return json.load(response)


def post(credentials: dict[str, Any]) -> str:
    """Give consent as a new visitor, whose id is returned."""
    visitor = uuid.uuid4().hex
    event = {"type": "consent.given", "visitor": visitor, "decisions": {"analytics": "granted"}, "action": "customize"}
    call(credentials, "POST", "events", body=event | {"policyVersion": "1.0"})
    return visitor


def decision(credentials: dict[str, Any], visitor: str) -> str:
    answer = call(credentials, "GET", "consent", visitor=visitor)
    return str(answer["decisions"]["analytics"]["decision"])


def answers(credentials: dict[str, Any]) -> bool:
    try:
        post(credentials)
    except OSError:  # among them HTTPError and URLError
        return False
    return True


@pytest.fixture
def data() -> Iterator[Path]:
    parent = Path(tempfile.mkdtemp(prefix="ledger-up-"))
    yield parent / "data"
    shutil.rmtree(parent)


@pytest.fixture(scope="module")
def stopped() -> Iterator[Path]:
    """A data directory as a first start leaves it that was ended with Ctrl-C."""
    parent = Path(tempfile.mkdtemp(prefix="ledger-up-"))
    up = Up(parent / "data", free_port())
    up.ready()
    assert up.press_ctrl_c() == 0
    up.close()
    yield parent / "data"
    shutil.rmtree(parent)


@pytest.fixture
def founded(stopped: Path, data: Path) -> None:
    """The next start is not the first one."""
    subprocess.run(["cp", "-a", stopped, data], check=True)


@pytest.fixture
def start(data: Path) -> Iterator[Callable[[], Up]]:
    port = free_port()
    started: list[Up] = []

    def begin() -> Up:
        started.append(Up(data, port))
        return started[-1]

    yield begin
    for up in started:
        up.close()
        wait(lambda up=up: not up.left())  # type: ignore[misc]


def test_up_gives_credentials_that_work_and_ctrl_c_leaves_nothing(start: Callable[[], Up], data: Path) -> None:
    up = start()
    credentials = up.ready()
    assert (data / "credentials.json").stat().st_mode & 0o777 == 0o600
    assert credentials.keys() == {"base_url", "database_url", "nats_url", "sites"}
    assert set(credentials["sites"]) == {SITE, "we-nera.com", "id.custodian.kz"}
    for site in credentials["sites"].values():
        assert site.keys() == {"log_id", "log_vkey", "publishable", "secret"}
    visitor = post(credentials)
    up.says("Ctrl-C stops all of it")
    assert f"Open {credentials['base_url']}/ " in up.text()
    assert credentials["sites"][SITE]["publishable"] not in up.text()

    assert up.press_ctrl_c() == 0
    assert up.left() == []
    assert "Stopped." in up.text()

    again = start()
    assert again.ready() == credentials
    assert decision(credentials, visitor) == "granted"


@pytest.mark.usefixtures("founded")
def test_the_commands_on_the_screen_work_as_they_stand_at_a_later_start_too(
    start: Callable[[], Up], data: Path
) -> None:
    """Those of the first start are given by the test of the README."""
    up = start()
    up.ready()
    up.says("Ctrl-C stops all of it")
    commands = re.findall(r"^  (\S.* (?:simulate|export|verify) .*)$", up.text().replace("\r", ""), flags=re.MULTILINE)
    assert len(commands) == 3
    for command in commands:
        ran = subprocess.run(command, shell=True, cwd=data.parent, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, f"{command}\n{ran.stdout}{ran.stderr}"
    assert up.press_ctrl_c() == 0


@pytest.mark.usefixtures("founded")
def test_what_is_in_the_way_is_said_plainly(start: Callable[[], Up], data: Path) -> None:
    up = start()
    up.ready()
    arguments = ["--data", str(data), "--port", "0"]
    second = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, check=False, timeout=60)
    assert second.returncode == 2
    assert f"in use by another `consent-ledger up` (process {up.process.pid})" in second.stderr
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        arguments = ["--data", str(data.with_name("other")), "--port", port]
        other = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, check=False, timeout=60)
    assert other.returncode == 2
    assert f"port {port} of 127.0.0.1 is in use" in other.stderr
    assert up.process.poll() is None


@pytest.mark.usefixtures("founded")
def test_whatever_part_is_killed_comes_back_with_everything_that_was_confirmed(start: Callable[[], Up]) -> None:
    up = start()
    credentials = up.ready()
    visitors = []
    for name, words in {"PostgreSQL": ["-D"], "NATS": ["--config"], "the service": ["serve"]}.items():
        visitors.append(post(credentials))
        victim = up.part(*words)
        victim.kill()
        up.says(f"{name} ended (killed by SIGKILL): starting it again")
        wait(lambda: answers(credentials))
        up.remember_family()
    assert {decision(credentials, visitor) for visitor in visitors} == {"granted"}


@pytest.mark.usefixtures("founded")
def test_kill_9_of_everything_or_of_up_alone_ends_all_and_loses_nothing(start: Callable[[], Up]) -> None:
    visitors = []
    for everything in (False, True):
        up = start()
        credentials = up.ready()
        assert {decision(credentials, visitor) for visitor in visitors} <= {"granted"}
        visitors.append(post(credentials))
        for process in up.family if everything else {psutil.Process(up.process.pid)}:
            with contextlib.suppress(psutil.NoSuchProcess):  # it ended with one that was killed before
                process.kill()
        up.process.wait(timeout=60)
        wait(lambda up=up: not up.left(), seconds=60)  # type: ignore[misc]
    credentials = start().ready()
    assert {decision(credentials, visitor) for visitor in visitors} == {"granted"}


def test_ctrl_c_in_the_middle_of_the_first_start_ends_it_and_the_next_one_finishes_it(start: Callable[[], Up]) -> None:
    for moment in ("initdb", "serve"):
        up = start()
        wait(lambda up=up, moment=moment: moment in {p.stem for p in (up.data / "run").glob("*.json")}, START_SECONDS)  # type: ignore[misc]
        assert up.press_ctrl_c() == 0
        assert up.left() == []
    post(start().ready())


@pytest.mark.usefixtures("founded")
def test_a_database_that_was_lost_is_not_replaced_by_new_logs_under_the_old_names(
    start: Callable[[], Up], data: Path
) -> None:
    shutil.rmtree(data / "postgres")
    up = start()
    wait(lambda: up.process.poll() is not None, START_SECONDS)
    assert up.process.returncode == 2
    assert f"the database has lost the log of id.custodian.kz, we-nera.com, {SITE}" in up.text()


@pytest.mark.usefixtures("founded")
def test_a_second_signal_ends_everything_at_once(start: Callable[[], Up]) -> None:
    up = start()
    credentials = up.ready()
    visitor = post(credentials)
    stuck = up.part("serve")
    stuck.suspend()  # it cannot answer SIGTERM
    up.process.send_signal(signal.SIGTERM)
    up.says("Stopping")
    up.process.send_signal(signal.SIGTERM)
    assert up.process.wait(timeout=60) == 0
    assert up.left() == []
    assert decision(start().ready(), visitor) == "granted"
