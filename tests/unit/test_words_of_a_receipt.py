"""The words in which a receipt is shown: one set, in the terminal and in the page that verifies it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest

import ledger
from ledger import receipt_report
from ledger.core.event import Action, Authentication, Type

PAGE = Path(ledger.__file__).parent / "web" / "verify.js"


def words_of_the_page(table: str) -> dict[str, str]:
    """The members of a constant of the page's script that holds words alone."""
    found = re.search(rf"^const {table} = \{{\n(.*?)^\}};$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert found is not None
    return dict(re.findall(r'^  "?([a-z_.]+)"?: "(.+)",$', found[1], re.MULTILINE))


@pytest.mark.parametrize(("table", "said"), [("TYPES", Type), ("ACTIONS", Action)])
def test_the_page_and_the_terminal_say_the_same_words(table: str, said: object) -> None:
    words = getattr(receipt_report, table)
    assert set(words) == set(get_args(said))
    assert words_of_the_page(table) == words


def test_the_page_and_the_terminal_name_the_same_senders() -> None:
    words = receipt_report.AUTHENTICATIONS
    assert set(words) == set(get_args(Authentication))
    assert words_of_the_page("AUTHENTICATIONS") == {key: words[key] for key in words if key != "publishable"}
    assert words["publishable"] in PAGE.read_text(encoding="utf-8")
