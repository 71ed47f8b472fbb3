"""Key files: sealed for one installation or under a passphrase, bound to log and role, never told."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl import bindings
from nacl.exceptions import UnavailableError

from ledger.config import Settings
from ledger.core.encoding import encode_base64
from ledger.core.errors import ConfigInvalid, LedgerError
from ledger.keys import files as key_files
from ledger.keys.sealed import (
    ROLES,
    SealedKey,
    parse_sealed_key,
    seal,
    seal_by_passphrase,
    unseal,
    unseal_by_passphrase,
)
from tests.logbuilder import ORIGIN, SITE, key

SECRET = bytes(range(32))
PASSPHRASE = "six words that nobody else knows"
KEY = key("sealed")
SEALED = seal(KEY, ORIGIN, "ingest", SECRET)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(database_url="", keys_dir=tmp_path / "keys", master_secret=SECRET)


def test_a_key_comes_out_as_it_went_in_and_is_never_in_clear() -> None:
    for role in ROLES:
        sealed = seal(KEY, ORIGIN, role, SECRET)
        data = sealed.encode()
        assert parse_sealed_key(data) == sealed
        assert unseal(sealed, SECRET).seed == KEY.seed
        for encoded in (KEY.seed, KEY.seed.hex().encode(), encode_base64(KEY.seed).encode()):
            assert encoded not in data
            assert encoded.decode("latin-1") not in repr(sealed)
    assert seal(KEY, ORIGIN, "ingest", SECRET).sealed != SEALED.sealed, "a nonce is used once"


def test_the_master_secret_itself_is_not_the_sealing_key() -> None:
    with pytest.raises(Exception, match="Decryption failed"):
        bindings.crypto_aead_aes256gcm_decrypt(SEALED.sealed[12:], SEALED.header, SEALED.sealed[:12], SECRET)


def test_another_master_secret_does_not_open_it_and_says_so() -> None:
    with pytest.raises(ConfigInvalid, match="LEDGER_MASTER_SECRET does not open it"):
        unseal(SEALED, bytes(32))


@pytest.mark.parametrize(
    "change",
    [
        {"origin": "other.example/" + SITE},
        {"role": "log"},
        {"public": key("another").public},
        {"sealed": SEALED.sealed[:-1] + bytes([SEALED.sealed[-1] ^ 1])},
        {"sealed": bytes([SEALED.sealed[0] ^ 1]) + SEALED.sealed[1:]},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_stands_in_clear_cannot_be_changed(change: dict[str, str]) -> None:
    with pytest.raises(ConfigInvalid, match="does not open it"):
        unseal(parse_sealed_key(SEALED._replace(**change).encode()), SECRET)  # type: ignore[arg-type]


@given(st.data())
def test_a_file_with_any_change_is_refused_in_our_own_words(data: st.DataObject) -> None:
    text = bytearray(SEALED.encode())
    at = data.draw(st.integers(0, len(text) - 1))
    text[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(LedgerError):
        unseal(parse_sealed_key(bytes(text)), SECRET)


@given(st.binary(max_size=600))
def test_any_bytes_are_refused_in_our_own_words(data: bytes) -> None:
    with pytest.raises(LedgerError):
        parse_sealed_key(data)


@pytest.mark.parametrize(
    "lock",
    [
        "passphrase argon2id 3 268435456",
        "passphrase argon2id 3 4294967296 AAAAAAAAAAAAAAAAAAAAAA==",
        "passphrase argon2id 0 268435456 AAAAAAAAAAAAAAAAAAAAAA==",
        "passphrase argon2id 99 268435456 AAAAAAAAAAAAAAAAAAAAAA==",
        "passphrase argon2id 3 1 AAAAAAAAAAAAAAAAAAAAAA==",
        "passphrase argon2id 3 268435456 AAAA",
        "passphrase argon2i 3 268435456 AAAAAAAAAAAAAAAAAAAAAA==",
        "passphrase argon2idd 3 268435456 AAAAAAAAAAAAAAAAAAAAAA==",
        "none",
        "",
    ],
)
def test_a_lock_that_asks_for_too_much_or_is_unknown_is_refused_before_it_is_tried(lock: str) -> None:
    with pytest.raises(LedgerError):
        parse_sealed_key(SEALED._replace(lock=lock).encode())


def test_a_passphrase_opens_what_it_closed_and_nothing_else() -> None:
    sealed = parse_sealed_key(seal_by_passphrase(KEY, ORIGIN, "root", PASSPHRASE + " é").encode())
    assert unseal_by_passphrase(sealed, PASSPHRASE + " e\u0301").seed == KEY.seed, "typed on another keyboard"
    with pytest.raises(ConfigInvalid, match="passphrase does not open"):
        unseal_by_passphrase(sealed, PASSPHRASE)
    with pytest.raises(ConfigInvalid, match="locked with a passphrase"):
        unseal(sealed, SECRET)
    with pytest.raises(ConfigInvalid, match="locked with the master secret"):
        unseal_by_passphrase(SEALED, PASSPHRASE)
    with pytest.raises(ConfigInvalid, match="characters"):
        seal_by_passphrase(KEY, ORIGIN, "root", "short")


def test_without_aes_instructions_the_message_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def unavailable(*_: object) -> bytes:
        raise UnavailableError("Construction requires hardware acceleration")

    monkeypatch.setattr(bindings, "crypto_aead_aes256gcm_encrypt", unavailable)
    monkeypatch.setattr(bindings, "crypto_aead_aes256gcm_decrypt", unavailable)
    for use in (lambda: seal(KEY, ORIGIN, "log", SECRET), lambda: unseal(SEALED, SECRET)):
        with pytest.raises(ConfigInvalid, match="AES"):
            use()


# --- on disk ----------------------------------------------------------------------------------------------------------


def test_files_are_the_owners_alone_and_are_never_replaced(settings: Settings) -> None:
    previous = os.umask(0)
    try:
        path = key_files.new_key(settings, ORIGIN, "log")
    finally:
        os.umask(previous)
    assert path.stat().st_mode & 0o777 == 0o600
    assert {folder.stat().st_mode & 0o777 for folder in (path.parent, path.parent.parent)} == {0o700}
    before = path.read_bytes()
    with pytest.raises(ConfigInvalid, match="never replaced"):
        key_files.write_key_file(path, SEALED)
    assert path.read_bytes() == before
    assert [other.name for other in path.parent.iterdir()] == [path.name], "no unfinished file is left"


def test_a_medium_without_hard_links_takes_a_key_too_and_keeps_what_it_has(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    path = key_files.new_key(settings, ORIGIN, "log")
    assert len(key_files.log_keys(settings, SITE)) == 1
    before = path.read_bytes()
    with pytest.raises(ConfigInvalid, match="never replaced"):
        key_files.write_key_file(path, SEALED)
    assert path.read_bytes() == before
    assert [other.name for other in path.parent.iterdir()] == [path.name]
    with pytest.raises(ConfigInvalid, match="cannot be written"):
        key_files.write_key_file(settings.keys_dir / "nowhere" / "root.key", SEALED)


def test_a_role_has_several_keys_each_named_by_its_id(settings: Settings) -> None:
    paths = [key_files.new_key(settings, ORIGIN, role) for role in ("ingest", "ingest", "log")]
    for path in paths:
        sealed = key_files.read_key_file(path)
        assert path.name == f"{sealed.role}-{sealed.key_id}.key"
    assert len(key_files.keys_here(settings, SITE, "ingest").keys) == 2
    assert [one.public for one in key_files.log_keys(settings, SITE)] == [key_files.read_key_file(paths[2]).public]


def damage(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def unseal_it(path: Path) -> None:
    path.write_text(KEY.seed.hex() + "\n")


def hide(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("harm", [damage, unseal_it, hide])
def test_one_file_that_cannot_be_used_takes_no_other_away(settings: Settings, harm: Callable[[Path], None]) -> None:
    good, bad = (key_files.new_key(settings, ORIGIN, "log") for _ in range(2))
    harm(bad)
    here = key_files.keys_here(settings, SITE, "log")
    assert (here.keys.keys(), here.problems.keys()) == ({good}, {bad})
    assert len(key_files.log_keys(settings, SITE)) == 1
    harm(good)
    with pytest.raises(ConfigInvalid, match=good.name):
        key_files.log_keys(settings, SITE)


def test_a_missing_key_says_where_it_was_looked_for(settings: Settings) -> None:
    with pytest.raises(ConfigInvalid, match=str(settings.keys_dir / SITE)):
        key_files.log_keys(settings, SITE)


def test_a_file_in_another_sites_or_roles_place_is_not_taken(settings: Settings) -> None:
    path = key_files.new_key(settings, ORIGIN, "ingest")
    elsewhere = settings.keys_dir / "shop.example.com" / path.name
    elsewhere.parent.mkdir()
    elsewhere.write_bytes(path.read_bytes())
    path.with_name("log-00000000.key").write_bytes(path.read_bytes())
    for site, role in (("shop.example.com", "ingest"), (SITE, "log")):
        here = key_files.keys_here(settings, site, role)
        assert not here.keys
        assert all("does not belong there" in problem for problem in here.problems.values())
        assert len(here.problems) == 1


def test_the_wrong_master_secret_is_named_and_no_key_is_told(settings: Settings) -> None:
    path = key_files.new_key(settings, ORIGIN, "log")
    with pytest.raises(ConfigInvalid, match="LEDGER_MASTER_SECRET") as refused:
        key_files.log_keys(replace(settings, master_secret=bytes(32)), SITE)
    assert str(path) in str(refused.value)
    assert encode_base64(SECRET) not in str(refused.value)


def test_a_founding_finds_the_key_that_an_earlier_one_left(settings: Settings) -> None:
    for role in ROLES:
        first = key_files.founding_key(settings, ORIGIN, role)
        assert key_files.founding_key(settings, ORIGIN, role).public == first.public
        assert len(key_files.paths_of(settings, SITE, role)) == 1
    assert isinstance(key_files.read_key_file(key_files.root_path(settings, SITE)), SealedKey)
