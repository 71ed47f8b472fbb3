"""The auditor and the verifier made from SPEC.md alone judge every broken bundle alike."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from ledger.core.note import VerifierKey
from tests.logbuilder import full_log
from tests.unit.audit_cases import Break, Case, short_log
from tests.vectors import spec_verifier as spec
from tests.vectors.spec_notes import Fault

UNIT = Path(__file__).parents[1] / "unit"
BREAKS: dict[str, Break] = {
    name: function
    for path in sorted(UNIT.glob("test_audit_*.py"))
    for name, function in getattr(importlib.import_module(f"tests.unit.{path.stem}"), "breaks", {}).items()
}


def second_opinion(case: Case, bundle: Path) -> spec.Report:
    vkey: VerifierKey = case.vkey or case.log.log_vkey
    old = None if case.old is None else case.old.encode()
    return spec.audit(bundle, str(vkey), case.log_id, old, tuple(str(witness) for witness in case.witnesses))


@pytest.mark.parametrize("name", list(BREAKS))
def test_both_find_a_fault_and_under_the_same_rule(name: str, tmp_path: Path) -> None:
    """The one stops at its first fault, so its rule is among those that the other lists."""
    case = Case(short_log())
    BREAKS[name](case)
    report = case.audit(tmp_path)
    with pytest.raises(Fault) as caught:
        second_opinion(case, tmp_path)
    assert caught.value.rule in {fault.rule for fault in report.faults}


def test_both_call_a_log_sound_that_has_every_kind_of_entry(tmp_path: Path) -> None:
    case = Case(full_log())
    assert case.audit(tmp_path).exit_code == 0
    assert second_opinion(case, tmp_path).exit == 0
