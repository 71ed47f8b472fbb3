"""Under whom an event is found: choices for an account under the account, all else under the visitor."""

from __future__ import annotations

from typing import get_args

import pytest

from ledger.core.event import DECIDING, Event, Type
from ledger.secrets import SiteHasher

HASHER = SiteHasher(b"m" * 32)
VISITOR = "v" * 22


def event(kind: Type, account: str | None) -> Event:
    return Event(id="01980000-0000-7000-8000-000000000001", site="x", type=kind, visitor=VISITOR, account=account)


@pytest.mark.parametrize("kind", get_args(Type))
def test_a_choice_with_an_account_is_the_account_s_and_a_link_is_the_visitor_s(kind: Type) -> None:
    account = HASHER.account("user-7")
    assert HASHER.subject(event(kind, None)) == HASHER.visitor(VISITOR)
    own = kind in DECIDING or kind in ("consent.expired", "consent.invalidated")
    if own or kind.startswith("account."):
        expected = bytes.fromhex(account) if own else HASHER.visitor(VISITOR)
        assert HASHER.subject(event(kind, account)) == expected


def test_an_account_of_a_visitor_s_name_is_another_subject_and_other_sites_have_other_hashes() -> None:
    assert bytes.fromhex(HASHER.account(VISITOR)) != HASHER.visitor(VISITOR)
    assert SiteHasher(b"n" * 32).account("user-7") != HASHER.account("user-7")
    assert len(HASHER.account("user-7")) == 2 * len(HASHER.visitor(VISITOR)) == 32
