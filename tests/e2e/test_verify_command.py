"""`consent-ledger verify` as a command: exit codes, report, worker processes, Ctrl-C."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from ledger.bundle import Directory
from ledger.config import VERIFY_SMALL_LOG_ENTRIES
from ledger.core.entry import Kind
from ledger.core.heads import Pins
from ledger.tar import pack
from ledger.verify import Report, verify
from tests.logbuilder import LogBuilder, full_log, key, witness
from tests.logserver import LogServer

COMMAND = [sys.executable, "-m", "ledger", "verify"]


@pytest.fixture(scope="module")
def log() -> LogBuilder:
    return full_log(300)


@pytest.fixture(scope="module")
def bundle(log: LogBuilder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = log.checkpoint(cosigned=[("witness.example/w1", log.now_ms // 1000)])
    return log.write(tmp_path_factory.mktemp("verify") / "bundle", made)


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=300)


def test_a_sound_bundle_is_0(bundle: Path, log: LogBuilder) -> None:
    old = bundle.parent / "old"
    old.write_bytes(log.checkpoint(size=5).encode())
    done = run(
        bundle,
        *("--log-vkey", log.log_vkey, "--log-id", log.log_id.hex(), "--old", old, "--witness", witness()),
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("sound: ")
    assert "302 events (300 opened, 2 erased), 1 erasures, 2 policies, 3 keys" in done.stdout
    assert "Traceback" not in done.stdout


def test_a_fault_is_1_and_names_rule_and_entry(bundle: Path, log: LogBuilder, tmp_path: Path) -> None:
    del log.openings[100]
    try:
        done = run(log.write(tmp_path), "--log-vkey", log.log_vkey)
    finally:
        log.openings[100] = (b"", b"")
    assert done.returncode == 1
    assert "rule 12 at entry 100: neither opened nor erased" in done.stdout


def test_a_log_without_payloads_is_3(log: LogBuilder, tmp_path: Path) -> None:
    log.write(tmp_path)
    (tmp_path / "payloads.ndjson").unlink()
    done = run(tmp_path, "--log-vkey", log.log_vkey)
    assert done.returncode == 3
    assert done.stdout.startswith("log only: ")


def test_the_report_as_json(bundle: Path, log: LogBuilder) -> None:
    done = run(bundle, "--log-vkey", log.log_vkey, "--json")
    report = json.loads(done.stdout)
    assert done.returncode == 0
    assert (report["verdict"], report["size"], report["rootKey"]) == ("sound", len(log.entries), "asserted")
    assert report["logId"] == log.log_id.hex()
    assert report["counts"]["events"] == 302
    assert [note["rule"] for note in report["notes"]] == [4]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--log-vkey", "nonsense"],
        ["--log-vkey", str(witness())],
        ["--log-id", "abc"],
        ["--log-id", "A" * 64],
        ["--old", "/nowhere"],
        ["--old", "/etc/hostname"],
        ["--witness", "nonsense"],
        [],
    ],
)
def test_what_the_auditor_brings_has_to_be_readable_else_2(bundle: Path, log: LogBuilder, arguments: list[str]) -> None:
    given = [] if arguments[:1] in ([], ["--log-vkey"]) else ["--log-vkey", str(log.log_vkey)]
    done = run(bundle, *given, *arguments)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("what", ["nothing", "a file", "an empty directory"])
def test_no_bundle_is_2(log: LogBuilder, tmp_path: Path, what: str) -> None:
    place = tmp_path / "place"
    if what == "a file":
        place.touch()
    elif what == "an empty directory":
        place.mkdir()
    done = run(place, "--log-vkey", log.log_vkey)
    assert done.returncode == 2
    assert done.stderr.startswith("could not run: ")
    assert "Traceback" not in done.stderr


# Other places than a directory


@pytest.mark.parametrize("name", ["bundle.tar", "bundle.tar.gz", "-"])
def test_a_tar_is_verified_as_its_directory_is_also_from_standard_input(
    bundle: Path, log: LogBuilder, tmp_path: Path, name: str
) -> None:
    place = tmp_path / (name if name != "-" else "piped.tar.gz")
    with place.open("wb") as file:
        pack(bundle, file, compress=place.suffix == ".gz")
    arguments = [*COMMAND, name if name == "-" else str(place), "--log-vkey", str(log.log_vkey)]
    data = place.read_bytes() if name == "-" else b""
    done = subprocess.run(arguments, input=data, capture_output=True, check=False, timeout=300)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.startswith(b"sound: ")
    place.write_bytes(place.read_bytes()[:-5000])
    done = subprocess.run([*COMMAND, str(place), *arguments[-2:]], capture_output=True, check=False, timeout=300)
    assert done.returncode == 2
    assert done.stderr.startswith(b"could not run: ")


async def test_a_log_over_http_is_log_only_at_best_and_a_lie_of_its_server_is_found(
    log: LogBuilder, tmp_path: Path
) -> None:
    async with LogServer(log) as server:
        (tmp_path / "key").write_text("sk_audit\n")
        arguments = (server.url, "--log-vkey", log.log_vkey, "--key-file", tmp_path / "key")
        done = await asyncio.to_thread(run, *arguments)
        assert (done.returncode, done.stderr) == (3, "")
        assert done.stdout.startswith("log only: ")
        assert all(headers["Authorization"] == "Bearer sk_audit" for headers in server.headers)
        server.lies["tile/0/000"] = bytes(8192)
        done = await asyncio.to_thread(run, *arguments)
        assert done.returncode == 1
        assert "rule 2: tile/0/000 does not hold the hashes of the entries" in done.stdout
        done = await asyncio.to_thread(run, server.url + "x/nowhere", *arguments[1:])
        assert done.returncode == 2
    done = await asyncio.to_thread(run, *arguments)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


# Large enough for worker processes


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> tuple[LogBuilder, Path]:
    """A log with one bad signature and one repeated event."""
    log = full_log(VERIFY_SMALL_LOG_ENTRIES + 2000)
    log.append_opened(Kind.EVENT, log.payload(), signature=bytes(64))
    log.event(id="01980000-0000-7000-8000-000000000100")
    log.events(300)
    return log, log.write(tmp_path_factory.mktemp("large") / "bundle")


def comparable(report: Report) -> dict[str, object]:
    return json.loads(report.encode()) | {"seconds": 0}


def test_many_processes_find_what_one_finds(large: tuple[LogBuilder, Path]) -> None:
    log, bundle = large
    pins = Pins(log.log_vkey)
    seen: list[int] = []
    one = verify(Directory(bundle), pins, processes=1)
    many = verify(Directory(bundle), pins, processes=3, progress=lambda done, size: seen.append(done))
    assert comparable(one) == comparable(many)
    assert sorted(fault.rule for fault in many.faults) == [7, 9]
    assert seen == [*range(256, len(log.entries), 256), len(log.entries)]


def test_ctrl_c_ends_it_all_at_once_with_2(large: tuple[LogBuilder, Path]) -> None:
    log, bundle = large
    arguments = [*COMMAND, str(bundle), "--log-vkey", str(log.log_vkey), "--processes", "2"]
    with subprocess.Popen(
        arguments,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # Where the tests run in a shell's background, SIGINT is ignored, and children would inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - it takes no lock
    ) as running:
        family = psutil.Process(running.pid)
        deadline = time.monotonic() + 120
        while len(children := family.children(recursive=True)) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        for process in (*children, family):  # a terminal signals the whole group
            process.send_signal(signal.SIGINT)
        _, errors = running.communicate(timeout=120)
    assert running.returncode == 2, errors
    assert "interrupted" in errors
    assert "Traceback" not in errors
    assert psutil.wait_procs(children, timeout=60)[1] == []


def test_workers_of_a_killed_audit_end_too(large: tuple[LogBuilder, Path]) -> None:
    log, bundle = large
    arguments = [*COMMAND, str(bundle), "--log-vkey", str(log.log_vkey), "--processes", "2"]
    with subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as running:
        family = psutil.Process(running.pid)
        deadline = time.monotonic() + 120
        while len(children := family.children(recursive=True)) < 3:  # two workers and their resource tracker
            assert time.monotonic() < deadline
            time.sleep(0.01)
        running.kill()
    assert psutil.wait_procs(children, timeout=60)[1] == []


def test_a_worker_that_is_killed_is_2(large: tuple[LogBuilder, Path]) -> None:
    log, bundle = large
    arguments = [*COMMAND, str(bundle), "--log-vkey", str(log.log_vkey), "--processes", "2"]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        family = psutil.Process(running.pid)
        deadline = time.monotonic() + 120
        while not (workers := [child for child in family.children() if "spawn_main" in " ".join(child.cmdline())]):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        workers[0].kill()
        _, errors = running.communicate(timeout=120)
    assert running.returncode == 2
    assert "worker" in errors
    assert "Traceback" not in errors


def test_a_witness_of_another_name_has_nothing_at_hand(bundle: Path, log: LogBuilder) -> None:
    done = run(bundle, "--log-vkey", log.log_vkey, "--witness", witness("other.example/w"))
    assert done.returncode == 0
    assert "no cosignature of other.example/w is at hand" in done.stdout
    assert key("other.example/w").public == witness("other.example/w").public
