"""The audit of keys: entries of kinds 0 and 2 by rules 1, 5, 7, 8 and 9, in log order, ahead of everything else.

Whoever judges other entries needs to know which ingest keys were active; so these few entries, all signed by the root,
are judged first and here. An operation that the root key did not sign, or that rule 8 forbids, has no effect.
"""

from __future__ import annotations

from hashlib import sha256

from ledger.core import ed25519
from ledger.core.entry import Entry, Kind, core_bytes, decode, origin_hash
from ledger.core.errors import BadSignature, KeyRefused, Malformed
from ledger.core.faults import Faults
from ledger.core.keys import INTRODUCE_LOG, KeySet, decode_genesis
from ledger.core.merkle import leaf_hash
from ledger.core.note import TYPE_ED25519, parse_vkey

MAX_KEY_ENTRIES = 10_000
"""No log comes near; beyond it the audit could not run in bounded memory."""


class KeyAudit:
    """The keys of one log as of the entries read so far."""

    def __init__(self, origin: str, faults: Faults) -> None:
        self.origin = origin
        self.faults = faults
        self.log_id = b""
        self.keys: KeySet | None = None
        """None until a genesis entry was read that names its keys."""
        self.active: dict[bytes, bytes] = {}
        """Active ingest keys: H(public) -> public."""
        self.signatures = 0
        self._cores: dict[bytes, int] = {}

    def genesis(self, data: bytes) -> None:
        """The entry at seq 0, whatever it is."""
        self.log_id = leaf_hash(data)
        try:
            entry = decode(data)
        except Malformed:
            return  # rule 1, said where all entries are parsed
        if entry.kind != Kind.GENESIS:
            return  # rule 5, said where all kinds are judged
        try:
            declared = decode_genesis(entry.public, self.origin)
        except Malformed as error:
            three_lines = entry.public.count(b"\n") == 3 and entry.public.endswith(b"\n")
            self.faults.add(1 if three_lines else 5, str(error), 0)  # 1, 5
            return
        except KeyRefused as error:
            self.faults.add(8, str(error), 0)  # 8
            return
        self.keys = KeySet(self.origin, self.log_id, declared)
        self.active = self.keys.ingest
        self._signed_by_root(entry, 0, origin_hash(self.origin))

    def key_entry(self, data: bytes, seq: int) -> bool:
        """An entry of kind 2 at `seq`; whether it changed the active ingest keys."""
        if self.keys is None:
            return False
        try:
            entry = decode(data)
        except Malformed:
            return False  # rule 1, said where all entries are parsed
        core = sha256(core_bytes(self.log_id, entry.kind, entry.commit, entry.public)).digest()
        if core in self._cores:
            self.faults.add(9, f"the core of entry {self._cores[core]} again", seq)  # 9
        elif len(self._cores) >= MAX_KEY_ENTRIES:
            raise Malformed(f"more than {MAX_KEY_ENTRIES:,} key entries: beyond what this auditor takes on")
        self._cores.setdefault(core, seq)
        if not self._signed_by_root(entry, seq, self.log_id):
            return False
        if entry.public[:1] == bytes((INTRODUCE_LOG,)):
            try:
                parse_vkey(entry.public[1:].decode("ascii", "replace"), TYPE_ED25519)
            except Malformed as error:
                self.faults.add(1, str(error), seq)  # 1
                return False
            except KeyRefused:
                pass  # rule 8, said below
        try:
            self.keys.apply(entry.public)
        except KeyRefused as error:
            self.faults.add(8, str(error), seq)  # 8
        except Malformed as error:
            self.faults.add(5, str(error), seq)  # 5
        before, self.active = self.active, self.keys.ingest
        return before != self.active

    def _signed_by_root(self, entry: Entry, seq: int, log: bytes) -> bool:
        """7"""
        assert self.keys is not None
        self.signatures += 1
        try:
            public = self.keys.signer(entry)
            ed25519.verify(public, core_bytes(log, entry.kind, entry.commit, entry.public), entry.signature)
        except KeyRefused as error:
            self.faults.add(7, str(error), seq)
            return False
        except BadSignature:
            self.faults.add(7, "the signature is not the root key's over this core", seq)
            return False
        return True
