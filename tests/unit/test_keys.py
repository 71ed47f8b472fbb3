"""Which keys count: introduced once, by their holder; retired for good; one role each (rules 7 and 8)."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.core import keys, note
from ledger.core.ed25519 import SigningKey
from ledger.core.entry import ZEROS, Entry, Kind, key_hash
from ledger.core.errors import KeyRefused, LedgerError, Malformed
from ledger.core.keys import KeySet
from tests.logbuilder import ORIGIN, LogBuilder, key

LOG = LogBuilder()


def key_set() -> KeySet:
    return KeySet(ORIGIN, LOG.log_id, keys.decode_genesis(LOG.genesis_public(), ORIGIN))


def signed_by(signer: SigningKey, kind: int) -> Entry:
    return Entry(1, 0, ZEROS, kind, ZEROS, key_hash(signer.public), bytes(64), b"")


def state(of: KeySet) -> tuple[object, ...]:
    return of.ingest, of.log_keys, of.ever_log_keys


def test_a_genesis_declares_the_first_key_of_each_role() -> None:
    genesis = keys.decode_genesis(LOG.genesis_public(), ORIGIN)
    assert (genesis.log, genesis.ingest, genesis.root) == (LOG.log_vkey, LOG.ingest.public, LOG.root.public)
    assert keys.encode_genesis(*genesis) == LOG.genesis_public()


@given(st.binary(max_size=300))
def test_any_bytes_are_a_genesis_or_refused(public: bytes) -> None:
    with suppress(LedgerError):
        assert keys.encode_genesis(*keys.decode_genesis(public, ORIGIN)) == public


LINES = LOG.genesis_public().split(b"\n")


@pytest.mark.parametrize(
    "lines",
    [
        LINES[:3],
        [*LINES[:2], b""],
        [*LINES, b""],
        [LINES[0], LINES[1], LINES[2] + b" ", b""],
        [LINES[0], LINES[1].rstrip(b"="), LINES[2], b""],
        ["é".encode() + LINES[0], *LINES[1:]],
    ],
)
def test_a_genesis_is_three_lines(lines: list[bytes]) -> None:
    with pytest.raises(Malformed):
        keys.decode_genesis(b"\n".join(lines), ORIGIN)


def test_a_genesis_of_another_origin_or_with_a_key_in_two_roles_is_refused() -> None:
    with pytest.raises(KeyRefused):
        keys.decode_genesis(LOG.genesis_public(), "ledger.example/we-nera.com")
    for ingest, root in ((LOG.root, LOG.root), (LOG.log, LOG.root), (LOG.ingest, LOG.log)):
        with pytest.raises(KeyRefused):
            keys.decode_genesis(keys.encode_genesis(LOG.log_vkey, ingest.public, root.public), ORIGIN)


@pytest.mark.parametrize("kind", [Kind.GENESIS, Kind.KEY])
def test_the_root_alone_signs_genesis_and_key_entries(kind: Kind) -> None:
    assert key_set().signer(signed_by(LOG.root, kind)) == LOG.root.public
    for other in (LOG.ingest, LOG.log, key("stranger")):
        with pytest.raises(KeyRefused):
            key_set().signer(signed_by(other, kind))


@pytest.mark.parametrize("kind", [Kind.EVENT, Kind.ERASURE, Kind.POLICY])
def test_active_ingest_keys_sign_everything_else(kind: Kind) -> None:
    keyset = key_set()
    second = key("ingest 2")
    with pytest.raises(KeyRefused):
        keyset.signer(signed_by(second, kind))
    keyset.apply(keys.introduce_ingest(LOG.log_id, second))
    keyset.apply(keys.retire_ingest(LOG.ingest.public))
    assert keyset.signer(signed_by(second, kind)) == second.public
    for other in (LOG.ingest, LOG.root, LOG.log):
        with pytest.raises(KeyRefused):
            keyset.signer(signed_by(other, kind))


def test_log_keys_come_and_go_and_are_remembered() -> None:
    keyset = key_set()
    second = LOG.vkey(key("log 2"))
    keyset.apply(keys.introduce_log(second))
    assert keyset.log_keys == (LOG.log_vkey, second)
    keyset.apply(keys.retire_log(LOG.log_vkey))
    assert keyset.log_keys == (second,)
    assert keyset.ever_log_keys == (LOG.log_vkey, second)


Refused = Callable[[KeySet], bytes]
SECOND = key("ingest 2")
REFUSED: dict[str, Refused] = {
    "nothing": lambda _: b"",
    "an unknown operation": lambda _: b"\5",
    "operation zero": lambda _: b"\0" + bytes(32),
    "the first ingest key again": lambda _: keys.introduce_ingest(LOG.log_id, LOG.ingest),
    "the root as ingest key": lambda _: keys.introduce_ingest(LOG.log_id, LOG.root),
    "the log key as ingest key": lambda _: keys.introduce_ingest(LOG.log_id, LOG.log),
    "the ingest key as log key": lambda _: keys.introduce_log(LOG.vkey(LOG.ingest)),
    "the root as log key": lambda _: keys.introduce_log(LOG.vkey(LOG.root)),
    "the log key again": lambda _: keys.introduce_log(LOG.log_vkey),
    "a proof for another log": lambda _: keys.introduce_ingest(bytes(32), SECOND),
    "a proof by another key": lambda _: b"\1" + SECOND.public + LOG.ingest.sign(b""),
    "a proof cut short": lambda _: keys.introduce_ingest(LOG.log_id, SECOND)[:-1],
    "a key of small order": lambda _: b"\1" + (1).to_bytes(32, "little") + bytes(64),
    "a retirement of nobody": lambda _: keys.retire_ingest(SECOND.public),
    "a retirement of the root": lambda _: keys.retire_ingest(LOG.root.public),
    "a retirement by the key itself": lambda _: b"\2" + LOG.ingest.public,
    "a retirement of no log key": lambda _: keys.retire_log(LOG.vkey(SECOND)),
    "a log key of another name": lambda _: b"\3" + str(note.VerifierKey("a/b.c", 1, SECOND.public)).encode(),
    "a log key of another type": lambda _: b"\3" + str(note.VerifierKey(ORIGIN, 4, SECOND.public)).encode(),
    "a log key that is not ASCII": lambda _: b"\3\xff",
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_refused_operation_changes_nothing(name: str) -> None:
    keyset = key_set()
    before = state(keyset)
    with pytest.raises((KeyRefused, Malformed)):
        keyset.apply(REFUSED[name](keyset))
    assert state(keyset) == before
    keyset.apply(keys.introduce_ingest(LOG.log_id, SECOND))


def test_a_retired_key_never_comes_back_in_any_role() -> None:
    keyset = key_set()
    keyset.apply(keys.introduce_ingest(LOG.log_id, SECOND))
    keyset.apply(keys.retire_ingest(SECOND.public))
    for again in (keys.introduce_ingest(LOG.log_id, SECOND), keys.introduce_log(LOG.vkey(SECOND))):
        with pytest.raises(KeyRefused):
            keyset.apply(again)
    with pytest.raises(KeyRefused):
        keyset.apply(keys.retire_ingest(SECOND.public))


@given(st.binary(max_size=200))
def test_any_bytes_are_an_operation_or_refused(public: bytes) -> None:
    keyset = key_set()
    before = state(keyset)
    with suppress(LedgerError):
        keyset.apply(public)
        return
    assert state(keyset) == before
