"""Every key that a log had: since when, until when, on the word of the root key alone."""

from __future__ import annotations

import pytest

from ledger.core import keys
from ledger.core.entry import ZEROS, Entry, Kind, core_bytes, encode, key_hash
from ledger.core.errors import BadSignature, KeyRefused, LedgerError, Malformed
from ledger.core.key_history import KeyTerm, key_history
from tests.logbuilder import ORIGIN, LogBuilder, key


def built() -> LogBuilder:
    """Genesis, then 1 to 4: both keys rotated, and an ingest key that never was alone."""
    log = LogBuilder()
    log.key_entry(keys.introduce_ingest(log.log_id, key("ingest 2")))
    log.key_entry(keys.retire_ingest(log.ingest.public))
    log.key_entry(keys.introduce_log(log.vkey(key("log 2"))))
    log.key_entry(keys.retire_log(log.log_vkey))
    return log


def test_it_knows_each_key_its_role_and_its_time() -> None:
    log = built()
    history = key_history(ORIGIN, log.entries[0], log.entries[1:])
    assert history.terms == (
        KeyTerm("root", log.root.public, 0, None),
        KeyTerm("ingest", log.ingest.public, 0, 2),
        KeyTerm("log", log.log.public, 0, 4),
        KeyTerm("ingest", key("ingest 2").public, 1, None),
        KeyTerm("log", key("log 2").public, 3, None),
    )
    assert [term.public for term in history.active("log")] == [key("log 2").public]
    assert history.vkey(history.active("log")[0]) == log.vkey(key("log 2"))
    assert history.set.log_keys == (log.vkey(key("log 2")),)
    assert history.log_id == log.log_id


def test_an_entry_that_the_root_did_not_sign_is_refused() -> None:
    log = LogBuilder()
    thief = key("thief")
    public = keys.introduce_ingest(log.log_id, thief)
    for signer in (key_hash(thief.public), key_hash(log.root.public)):
        signature = thief.sign(core_bytes(log.log_id, Kind.KEY, ZEROS, public))
        entry = Entry(1, log.now_ms, log.log_id, Kind.KEY, ZEROS, signer, signature, public)
        with pytest.raises((KeyRefused, BadSignature)):
            key_history(ORIGIN, log.entries[0], [encode(entry)])


def test_entries_out_of_order_of_another_kind_or_of_another_log_are_refused() -> None:
    log = built()
    for entries in (
        [log.entries[2], log.entries[1]],
        [log.entries[1], log.entries[1]],
        [log.entries[0]],
        [log.entries[2][:-1]],
    ):
        with pytest.raises(LedgerError):
            key_history(ORIGIN, log.entries[0], entries)
    with pytest.raises(Malformed):
        key_history(ORIGIN, log.entries[1], [])
    with pytest.raises(LedgerError):
        key_history("other.example/shop.example.com", log.entries[0], [])
