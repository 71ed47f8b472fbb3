"""Every key that a log ever had, from its genesis entry and its key entries: since when, until when.

The entries come from a database and are checked as far as they stand alone: the root signed each, and each is allowed
(audit rules 7 and 8). That none was left out only a whole audit can tell (core/follow, core/audit).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from ledger.core import ed25519, keys
from ledger.core.entry import Entry, Kind, core_bytes, decode, key_hash, origin_hash
from ledger.core.errors import KeyRefused, Malformed
from ledger.core.merkle import leaf_hash
from ledger.core.note import TYPE_ED25519, VerifierKey


class KeyTerm(NamedTuple):
    """One key's time in the log: `since` and `until` are the seqs of the entries that say so."""

    role: str
    public: bytes
    since: int
    until: int | None

    @property
    def active(self) -> bool:
        return self.until is None


@dataclass(frozen=True)
class KeyHistory:
    """The keys of one log, in the order in which they came. `set` is the key set after the last of the entries."""

    origin: str
    log_id: bytes
    terms: tuple[KeyTerm, ...]
    set: keys.KeySet

    def active(self, role: str) -> list[KeyTerm]:
        """The active keys of a role, oldest first."""
        return [term for term in self.terms if term.role == role and term.active]

    def vkey(self, term: KeyTerm) -> VerifierKey:
        return VerifierKey(self.origin, TYPE_ED25519, term.public)


def key_history(origin: str, genesis: bytes, key_entries: Iterable[bytes]) -> KeyHistory:
    """Read the genesis entry and the entries of kind 2 in their order.

    `Malformed`, `KeyRefused` or `BadSignature` for an entry that could not be in a sound log.
    """
    first = decode(genesis)
    log_id = leaf_hash(genesis)
    if first.seq or first.kind != Kind.GENESIS:
        raise Malformed("a log begins with its genesis entry")
    declared = keys.decode_genesis(first.public, origin)
    keyset = keys.KeySet(origin, log_id, declared)
    _check_signature(keyset, first, origin_hash(origin))
    roles = (("root", declared.root), ("ingest", declared.ingest), ("log", declared.log.public))
    terms = {public: KeyTerm(role, public, 0, None) for role, public in roles}
    seq = 0
    for data in key_entries:
        entry = decode(data)
        if entry.kind != Kind.KEY or entry.seq <= seq:
            raise Malformed("key entries come in the order of the log")
        seq = entry.seq
        _check_signature(keyset, entry, log_id)
        before = _active(keyset)
        keyset.apply(entry.public)
        after = _active(keyset)
        for public in before.keys() - after.keys():
            terms[public] = terms[public]._replace(until=seq)
        for public in after.keys() - before.keys():
            terms[public] = KeyTerm(after[public], public, seq, None)
    return KeyHistory(origin, log_id, tuple(terms.values()), keyset)


def _check_signature(keyset: keys.KeySet, entry: Entry, log: bytes) -> None:
    if entry.signer != key_hash(keyset.root):
        raise KeyRefused(f"entry {entry.seq} is not signed by the root key")
    ed25519.verify(keyset.root, core_bytes(log, entry.kind, entry.commit, entry.public), entry.signature)


def _active(keyset: keys.KeySet) -> dict[bytes, str]:
    ingest = dict.fromkeys(keyset.ingest.values(), "ingest")
    return ingest | {vkey.public: "log" for vkey in keyset.log_keys}
