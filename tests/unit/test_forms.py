"""What a person is told of a text that has not its form: never a pattern, always what was expected."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import msgspec
import pytest
from msgspec import inspect

import ledger.erasing.messages
import ledger.requests.messages  # noqa: F401 - their messages are among the Inputs
from ledger.commands.could_not_run import of_the_system
from ledger.commands.options import FiniteRange, read_options
from ledger.core.errors import ConfigInvalid, InputRefused
from ledger.core.event import EventInput, convert
from ledger.core.forms import is_plain, said
from ledger.erasing.messages import ErasureInput
from ledger.messages import CheckInput, Input
from ledger.requests.messages import RequestRegistration

VISITOR = "v" * 22


def patterns(kind: Any) -> Iterator[str]:
    """Every pattern that a message may be refused by."""
    if isinstance(kind, inspect.StrType) and kind.pattern is not None:
        yield kind.pattern
    for part in (
        *(field.type for field in getattr(kind, "fields", ())),
        *getattr(kind, "types", ()),
        *(getattr(kind, name) for name in ("key_type", "value_type", "item_type") if hasattr(kind, name)),
    ):
        yield from patterns(part)


def test_every_form_of_what_is_sent_to_the_ledger_has_words() -> None:
    sent = [EventInput, *Input.__subclasses__()]
    found = {(kind.__name__, pattern) for kind in sent for pattern in patterns(inspect.type_info(kind))}
    assert {name for name, _ in found} >= {"EventInput", "ErasureInput", "RequestStepInput", "CookieReviewInput"}
    for name, pattern in sorted(found):
        told = said(f"Expected `str` matching regex {pattern!r}", "it")
        assert told.startswith("it is "), f"{name}: {pattern}"


@pytest.mark.parametrize(
    ("kind", "value", "told", "pointer"),
    [
        (
            ErasureInput,
            {"reason": "retention", "instruction": "by letter"},
            "instruction is a reference",
            "/instruction",
        ),
        (CheckInput, {"visitors": [VISITOR, {"visitor": "x"}]}, "visitor is a visitor's id", "/visitors/1/visitor"),
        (
            EventInput,
            {"type": "consent.given", "visitor": VISITOR, "decisions": {"a b": "granted"}},
            "a name in decisions is a purpose's id",
            "/decisions",
        ),
        (
            EventInput,
            {"type": "consent.given", "visitor": VISITOR, "occurredAt": "noon"},
            "occurredAt is a time like",
            None,
        ),
    ],
    ids=["reference", "inside a list", "name of a map", "time"],
)
def test_a_text_of_another_form_is_told_by_its_member_and_an_example(
    kind: Any, value: object, told: str, pointer: str | None
) -> None:
    with pytest.raises(InputRefused) as refused:
        convert(value, kind)
    assert refused.value.detail.startswith(told)
    assert "regex" not in refused.value.detail
    assert "like" in refused.value.detail
    assert refused.value.pointer == (pointer or "/occurredAt")


def test_a_command_says_so_of_its_option() -> None:
    told = {"kind": "access", "contact": "Anna, by phone"}
    with pytest.raises(ConfigInvalid, match=r"^--contact is a reference, .* like DSR-2026/117$"):
        read_options(told, RequestRegistration)
    with pytest.raises(ConfigInvalid, match=r"^--received is a time like"):
        read_options({"kind": "access", "receivedAt": "noon"}, RequestRegistration, {"receivedAt": "--received"})
    assert read_options({"kind": "access", "contact": None}, RequestRegistration) == RequestRegistration("access")


def test_what_is_no_matter_of_form_is_told_as_it_is() -> None:
    with pytest.raises(msgspec.ValidationError) as refused:
        msgspec.convert({}, ErasureInput)
    assert said(str(refused.value), "it") == "Object missing required field `reason`"


@pytest.mark.parametrize(
    "hidden", ["\x1b", "\x85", "\xad", "\u200b", "\u2028", "\u2029", "\u202e", "\U000e0041"], ids=ascii
)
def test_a_text_that_is_shown_holds_nothing_that_steers_or_hides(hidden: str) -> None:
    assert is_plain("Әлия, DPO \u2013 №7 🙂")
    assert not is_plain(f"DPO{hidden}")


@pytest.mark.parametrize("number", ["nan", "inf", "-1"])
def test_a_number_of_seconds_is_a_number(number: str) -> None:
    with pytest.raises(click.BadParameter):
        FiniteRange(min=0).convert(number, None, None)
    assert FiniteRange(min=0).convert("1.5", None, None) == 1.5


def test_what_the_system_refuses_is_told_by_the_file(tmp_path: Path) -> None:
    with pytest.raises(OSError) as refused:
        (tmp_path / "none" / "file").open("wb")
    assert of_the_system(refused.value) == f"{tmp_path}/none/file: No such file or directory"
    assert of_the_system(TimeoutError("too late")) == "TimeoutError: too late"
