"""Every attack of the table is found by the rules that it names, and by nothing else: without them it goes unnoticed.

The same bundles are judged by `verify` and by a verifier made from proto/SPEC.md alone. Both have to agree.
"""

from __future__ import annotations

import pytest

from ledger.core.faults import Faults
from tests.adversary.attacks import ATTACKS, Attack
from tests.adversary.gallery import Gallery, second_opinion, verify
from tests.adversary.victim import Victim


async def nothing(v: Victim) -> None:
    """No attack."""


each_attack = pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS.keys())


def test_the_honest_log_is_sound(gallery: Gallery) -> None:
    shown = gallery("honest", nothing)
    report = verify(shown)
    assert (report["verdict"], report["faultCount"], report["rootKey"]) == ("sound", 0, "pinned")
    assert second_opinion(shown) is None


@each_attack
def test_an_attack_is_found_by_its_rules(attack: Attack, gallery: Gallery) -> None:
    report = verify(gallery(attack.name, attack.do))
    assert {fault["rule"] for fault in report["faults"]} == attack.rules, report["faults"]
    assert report["verdict"] == "fault"


@each_attack
def test_without_its_rules_an_attack_would_go_unnoticed(
    attack: Attack, gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    add = Faults.add

    def forgetful(self: Faults, rule: int, detail: str, seq: int | None = None) -> None:
        if rule not in attack.rules:
            add(self, rule, detail, seq)

    monkeypatch.setattr(Faults, "add", forgetful)
    assert verify(gallery(attack.name, attack.do))["verdict"] == "sound"


@each_attack
def test_a_verifier_made_from_the_specification_alone_agrees(attack: Attack, gallery: Gallery) -> None:
    assert second_opinion(gallery(attack.name, attack.do)) in attack.rules
