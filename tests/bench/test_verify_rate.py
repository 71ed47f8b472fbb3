"""The generated log is a sound one, by the word of the specification too; and `verify` is measured as it is used."""

from __future__ import annotations

from pathlib import Path

import pytest

from ledger.bundle import Directory
from ledger.config import VERIFY_SMALL_LOG_ENTRIES
from ledger.core.heads import Pins
from ledger.verify import verify
from tests.bench import verify_rate
from tests.bench.generate import EVENTS_PER_ERASURE, Made, Plan, generate, log_vkey
from tests.vectors import spec_verifier as spec

PLAN = Plan(VERIFY_SMALL_LOG_ENTRIES + 500, 1)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("tests.bench.generate.EVENTS_PER_ERASURE", EVENTS_PER_ERASURE // 20)
        return generate(PLAN, tmp_path_factory.mktemp("generated") / "bundle", processes=2)


def test_a_generated_log_is_sound_and_has_erasures(made: Made) -> None:
    report = verify(Directory(made.directory), Pins(log_vkey(PLAN), bytes.fromhex(made.log_id)))
    assert (report.verdict, report.faults, report.size) == ("sound", (), PLAN.entries)
    assert report.counts.erasures > 1
    assert report.counts.opened + report.counts.erased == report.counts.events


def test_a_generated_log_is_sound_by_the_word_of_the_specification(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a few entries, for the verifier of the specification is a slow one."""
    monkeypatch.setattr("tests.bench.generate.EVENTS_PER_ERASURE", EVENTS_PER_ERASURE // 200)
    little = generate(Plan(400, 1), tmp_path / "bundle", processes=1)
    report = spec.audit(little.directory, little.log_vkey, bytes.fromhex(little.log_id))
    assert report.exit == 0
    assert report.size == 400


def test_the_same_seed_gives_the_same_log(made: Made, tmp_path: Path) -> None:
    one, two = (generate(Plan(300, 7), tmp_path / name, processes=n) for name, n in (("one", 1), ("two", 2)))
    assert (one.directory / "checkpoint").read_bytes() == (two.directory / "checkpoint").read_bytes()
    assert one.log_id != made.log_id


def test_verify_is_measured_with_all_its_processes(made: Made) -> None:
    run = verify_rate.run_verify(made.directory, made.log_vkey, 2)
    assert run.report["verdict"] == "sound"
    assert run.rate.per_second > 0
    assert run.peak_bytes > 3 * 10_000_000, "parent and two workers"
    assert verify_rate.bare_rate(2, 0.2).per_second > 0
