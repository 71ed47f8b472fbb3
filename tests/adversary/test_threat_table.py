"""The specification's threat table says what this suite shows, and every rule is shown to catch something."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from tests.adversary.attacks import ATTACKS
from tests.adversary.threats import ELSEWHERE, HEAD, threats

TOP = Path(__file__).resolve().parents[2]
SPEC = (TOP / "proto" / "SPEC.md").read_text(encoding="utf-8")


def test_the_table_of_the_specification_is_that_of_the_attacks() -> None:
    assert SPEC.count(HEAD) == 1
    table = SPEC[SPEC.index(HEAD) + len(HEAD) + 1 :].split("\n\n", 1)[0].rstrip("\n").split("\n")
    assert table == [threat.row() for threat in threats()], "python -m tests.adversary.threats prints the new one"


def test_every_test_that_the_table_names_is_there() -> None:
    functions: set[str] = set()
    for path in (TOP / "tests").rglob("test_*.py"):
        nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        functions |= {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    assert {threat.test for threat in ELSEWHERE} <= functions


def test_every_rule_is_shown_to_catch_an_attack() -> None:
    by_attack = {rule for one in ATTACKS.values() for rule in one.rules}
    elsewhere = {int(number) for one in ELSEWHERE for number in re.findall(r"rule (\d+)", one.found_by)}
    assert by_attack | elsewhere == set(range(1, 15))


def test_the_specification_says_of_each_rule_what_it_catches() -> None:
    chapter = SPEC[SPEC.index("## 19. For the auditor") :]
    assert re.findall(r"^\| (\d+) [^|]*\|", chapter, flags=re.MULTILINE) == [str(rule) for rule in range(1, 15)]
