"""Where a command has its URL and keys from."""

from __future__ import annotations

from pathlib import Path

import pytest

from ledger.core.errors import ConfigInvalid
from ledger.credentials import ACCESS_VARIABLES, Credentials, SiteKeys, find_access, write_credentials

KEYS = SiteKeys(log_id="00", log_vkey="v", publishable="pk_file", secret="sk_file")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    known = Credentials(base_url="http://a.example/", database_url="", nats_url="", sites={"a.example": KEYS})
    write_credentials(tmp_path, known)
    return tmp_path


def test_a_site_of_the_file_is_reached_by_it(data: Path) -> None:
    found = find_access("a.example", data, {})
    assert (found.base_url, found.publishable, found.secret) == ("http://a.example", "pk_file", "sk_file")


def test_of_a_site_that_was_added_later_is_said_where_its_keys_go_and_not_that_there_is_none(data: Path) -> None:
    with pytest.raises(ConfigInvalid) as refused:
        find_access("later.example", data, {})
    told = str(refused.value)
    assert "has keys of a.example, and none of later.example" in told
    assert all(name in told for name in ACCESS_VARIABLES)
    assert "no site" not in told


def test_the_environment_reaches_any_site_where_it_names_all_three(data: Path) -> None:
    environ = dict(zip(ACCESS_VARIABLES, ("http://b.example/", "pk_env", "sk_env"), strict=True))
    found = find_access("later.example", data, environ)
    assert (found.base_url, found.publishable, found.secret) == ("http://b.example", "pk_env", "sk_env")
