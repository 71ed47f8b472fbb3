"""How fast `verify` is beside bare signature checks: `python -m tests.bench.verify_rate DIR`, of a generated log.

Both are measured in one run on the same cores, one after the other and again: `verify` as the command that people
call, with its start and its report, and libsodium's own verification of distinct messages, in as many processes as
there are cores. On a machine that others use too, the ratio of processor times tells more than that of the clock.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import secrets
import subprocess
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import NamedTuple

import click
import psutil
from nacl import bindings

from tests.bench.generate import Plan, log_vkey

SAMPLE_SECONDS = 0.05
MESSAGES_PER_PROCESS = 20_000
MESSAGE_BYTES = 91
"""As long as the core of an event."""


class Rate(NamedTuple):
    """Of all processes together: per second of the clock, and per second of processor time in one process."""

    per_second: float
    per_cpu_second: float


class Run(NamedTuple):
    """One `verify`: its rate, and the most memory that parent and workers held at one time."""

    rate: Rate
    peak_bytes: int
    report: dict[str, object]


def _bare(start: Connection, seconds: float) -> None:
    public, secret = bindings.crypto_sign_keypair()
    signed = [bindings.crypto_sign(secrets.token_bytes(MESSAGE_BYTES), secret) for _ in range(MESSAGES_PER_PROCESS)]
    start.send(None)
    start.recv()
    count, began, cpu = 0, time.perf_counter(), time.process_time()
    while (took := time.perf_counter() - began) < seconds:
        at = count % MESSAGES_PER_PROCESS
        for one in signed[at : at + 100]:
            bindings.crypto_sign_open(one, public)
        count += 100
    start.send((count / took, count / (time.process_time() - cpu)))


def bare_rate(processes: int, seconds: float) -> Rate:
    """libsodium through the bindings that `verify` uses, in so many processes at the same time."""
    context = multiprocessing.get_context("spawn")
    running = []
    for _ in range(processes):
        ours, theirs = context.Pipe()
        process = context.Process(target=_bare, args=(theirs, seconds))
        process.start()
        running.append((process, ours))
    for _, pipe in running:
        pipe.recv()
    for _, pipe in running:
        pipe.send(None)
    rates = [pipe.recv() for _, pipe in running]
    for process, _ in running:
        process.join()
    return Rate(sum(rate for rate, _ in rates), sum(rate for _, rate in rates) / processes)


def _family_bytes(process: psutil.Process) -> int:
    total = 0
    for one in (process, *process.children(recursive=True)):
        try:
            total += one.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total


def run_verify(directory: Path, vkey: str, processes: int) -> Run:
    """The command, from its start to its end."""
    command = [sys.executable, "-m", "ledger", "verify", str(directory), "--log-vkey", vkey, "--json"]
    cpu, began, peak = _children_cpu(), time.perf_counter(), 0
    with subprocess.Popen([*command, "--processes", str(processes)], stdout=subprocess.PIPE) as running:
        family = psutil.Process(running.pid)
        while running.poll() is None:
            try:
                peak = max(peak, _family_bytes(family))
            except psutil.NoSuchProcess:
                break
            time.sleep(SAMPLE_SECONDS)
        assert running.stdout is not None
        report = json.loads(running.stdout.read())
    took, used = time.perf_counter() - began, _children_cpu() - cpu
    assert report["verdict"] == "sound", report
    return Run(Rate(report["size"] / took, report["size"] / used), peak, report)


def _children_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@click.command()
@click.argument("directory", type=click.Path(exists=True, path_type=Path))
@click.option("--seed", type=int, default=1, show_default=True, help="That the log was generated with.")
@click.option("--processes", type=int, default=os.cpu_count(), show_default=True)
@click.option("--rounds", type=int, default=3, show_default=True)
@click.option("--seconds", type=float, default=5.0, show_default=True, help="Of each measurement of bare signatures.")
def main(directory: Path, seed: int, processes: int, rounds: int, seconds: float) -> None:
    """Measure `verify` of DIRECTORY beside bare signature checks; exit code 1 below 0.8 or above 300 MB."""
    vkey = str(log_vkey(Plan(0, seed)))
    clock, cpu, peaks = [], [], []
    bare = bare_rate(processes, seconds)
    for _ in range(rounds):
        run = run_verify(directory, vkey, processes)
        after = bare_rate(processes, seconds)
        around = Rate((bare.per_second + after.per_second) / 2, (bare.per_cpu_second + after.per_cpu_second) / 2)
        clock.append(run.rate.per_second / around.per_second)
        cpu.append(run.rate.per_cpu_second / around.per_cpu_second)
        peaks.append(run.peak_bytes / 1e6)
        click.echo(
            f"verify {run.rate.per_second:,.0f} entries/s, bare signatures {around.per_second:,.0f}/s "
            f"in {processes} processes: {clock[-1]:.3f} by the clock, {cpu[-1]:.3f} by processor time, "
            f"at most {peaks[-1]:.0f} MB"
        )
        bare = after
    click.echo(f"median {median(clock):.3f} by the clock, {median(cpu):.3f} by processor time; {max(peaks):.0f} MB")
    sys.exit(0 if median(clock) >= 0.8 and max(peaks) < 300 else 1)


if __name__ == "__main__":
    main()
