"""What an auditor cannot find with what he has at hand: who has seen nothing before has to believe somebody.

Each limit is said by the report or by proto/SPEC.md, and each is shown next to what would have found the attack.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from tests.adversary.attacks import ATTACKS, Attack
from tests.adversary.gallery import Gallery, Shown, second_opinion, verify
from tests.adversary.test_attacks import nothing

NEVER_SKIPPED = {5, 8, 9, 11, 12}
WHERE_A_CHECKPOINT_IS_NEEDED = [one for one in ATTACKS.values() if one.by and one.rules == {4}]


def brought(shown: Shown, directory: Path, **changed: object) -> Shown:
    """The same bundle, and an auditor who brings something else."""
    auditor = replace(shown.auditor, **changed)  # type: ignore[arg-type]
    return Shown(shown.bundle, auditor.arguments(directory), auditor)


@pytest.mark.parametrize("attack", WHERE_A_CHECKPOINT_IS_NEEDED, ids=lambda attack: attack.name)
def test_who_brings_the_logs_key_alone_cannot_tell_and_is_told_so(
    attack: Attack, gallery: Gallery, tmp_path: Path
) -> None:
    """A whole other log, a rewrite, a fork: each is sound in itself. The report says that the root was asserted."""
    alone = brought(gallery(attack.name, attack.do), tmp_path, log_id=None, old=None)
    report = verify(alone)
    assert (report["verdict"], report["rootKey"]) == ("sound", "asserted")
    assert "root key" in " ".join(note["detail"] for note in report["notes"] if note["rule"] == 4)
    assert second_opinion(alone) is None


@pytest.mark.parametrize(
    "attack", [one for one in ATTACKS.values() if one.rules & NEVER_SKIPPED], ids=lambda attack: attack.name
)
def test_rule_13_what_an_older_checkpoint_covers_is_excused_from_signatures_and_nothing_else(
    attack: Attack, gallery: Gallery, tmp_path: Path
) -> None:
    """The auditor has accepted the attacked log once; the next audit finds the attack all the same."""
    shown = gallery(attack.name, attack.do)
    log = gallery.attacked[attack.name]
    seen = brought(shown, tmp_path, old=log.checkpoint())
    assert {fault["rule"] for fault in verify(seen)["faults"]} >= attack.rules & NEVER_SKIPPED


def test_rule_14_payloads_withheld_make_no_sound_log(gallery: Gallery, tmp_path: Path) -> None:
    shown = gallery("honest", nothing)
    bundle = shutil.copytree(shown.bundle, tmp_path / "bundle")
    (bundle / "payloads.ndjson").unlink()
    report = verify(shown._replace(bundle=bundle))
    assert report["verdict"] == "log only"
    assert [note["rule"] for note in report["notes"]] == [14]
