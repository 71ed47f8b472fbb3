"""Which keys count at which entry (audit rules 7 and 8): a set fed with the entries of kinds 0 and 2, in order.

Signatures of cores are checked by the caller with the key that `signer` returns; proofs of possession are checked here.
"""

from __future__ import annotations

from hashlib import sha256
from typing import NamedTuple

from ledger.core import ed25519
from ledger.core.encoding import decode_base64, encode_base64
from ledger.core.entry import Entry, Kind, key_hash
from ledger.core.errors import BadSignature, KeyRefused, Malformed
from ledger.core.note import TYPE_ED25519, VerifierKey, parse_vkey

KEY_LABEL = b"consent-ledger/v1 key\n"

INTRODUCE_INGEST = 1
RETIRE_INGEST = 2
INTRODUCE_LOG = 3
RETIRE_LOG = 4


class Genesis(NamedTuple):
    """What the genesis entry declares: the first key of each role."""

    log: VerifierKey
    ingest: bytes
    root: bytes


def encode_genesis(log: VerifierKey, ingest: bytes, root: bytes) -> bytes:
    """The public part of the genesis entry."""
    return f"{log}\n{encode_base64(ingest)}\n{encode_base64(root)}\n".encode()


def decode_genesis(public: bytes, origin: str) -> Genesis:
    """Parse and judge the keys of a genesis entry."""
    try:
        lines = public.decode("ascii").split("\n")
    except UnicodeDecodeError as error:
        raise Malformed("the genesis entry's public part is ASCII") from error
    if len(lines) != 4 or lines[3]:
        raise Malformed("a genesis entry declares a log vkey, an ingest key and a root key, a line each")
    log = parse_vkey(lines[0], TYPE_ED25519)
    if log.name != origin:
        raise KeyRefused("the log key's name is not the origin")
    ingest, root = decode_base64(lines[1]), decode_base64(lines[2])
    ed25519.check_public(ingest)
    ed25519.check_public(root)
    if len({log.public, ingest, root}) != 3:
        raise KeyRefused("one key in two roles")
    return Genesis(log, ingest, root)


def possession_message(log_id: bytes, public: bytes) -> bytes:
    """What a new ingest key signs to prove that its holder asks for it."""
    return KEY_LABEL + log_id + public


def introduce_ingest(log_id: bytes, key: ed25519.SigningKey) -> bytes:
    """The public part of the entry that introduces an ingest key, with its proof of possession."""
    return bytes((INTRODUCE_INGEST,)) + key.public + key.sign(possession_message(log_id, key.public))


def retire_ingest(public: bytes) -> bytes:
    return bytes((RETIRE_INGEST,)) + key_hash(public)


def introduce_log(vkey: VerifierKey) -> bytes:
    return bytes((INTRODUCE_LOG,)) + str(vkey).encode()


def retire_log(vkey: VerifierKey) -> bytes:
    return bytes((RETIRE_LOG,)) + sha256(str(vkey).encode()).digest()


class KeySet:
    """The keys of one log as of the entries applied so far. A key once seen, in any role, is never taken again."""

    def __init__(self, origin: str, log_id: bytes, genesis: Genesis) -> None:
        self.origin = origin
        self.log_id = log_id
        self.root = genesis.root
        self._ingest: dict[bytes, bytes] = {key_hash(genesis.ingest): genesis.ingest}
        self._log: dict[bytes, VerifierKey] = {_vkey_hash(genesis.log): genesis.log}
        self._ever_log = [genesis.log]
        self._seen = {genesis.root, genesis.ingest, genesis.log.public}

    @property
    def ingest(self) -> dict[bytes, bytes]:
        """Active ingest keys: H(public) -> public."""
        return dict(self._ingest)

    @property
    def log_keys(self) -> tuple[VerifierKey, ...]:
        """Active log keys, oldest first."""
        return tuple(self._log.values())

    @property
    def ever_log_keys(self) -> tuple[VerifierKey, ...]:
        """Every log key so far, retired ones too: their signature lines are known, so a bad one is a fault (rule 4)."""
        return tuple(self._ever_log)

    def signer(self, entry: Entry) -> bytes:
        """The public key that must have signed this entry (rule 7); `KeyRefused` if the named one may not."""
        if entry.kind in (Kind.GENESIS, Kind.KEY):
            if entry.signer != key_hash(self.root):
                raise KeyRefused("only the root key signs entries of kinds 0 and 2")
            return self.root
        public = self._ingest.get(entry.signer)
        if public is None:
            raise KeyRefused("the signer is no ingest key active at this entry")
        return public

    def apply(self, public: bytes) -> None:
        """Apply the public part of a kind 2 entry (rule 8). A refused one changes nothing."""
        if not public:
            raise Malformed("a key entry holds an operation")
        operation, argument = public[0], public[1:]
        if operation == INTRODUCE_INGEST:
            self._introduce_ingest(argument)
        elif operation == RETIRE_INGEST:
            if self._ingest.pop(argument, None) is None:
                raise KeyRefused("a retirement names no active ingest key")
        elif operation == INTRODUCE_LOG:
            self._introduce_log(argument)
        elif operation == RETIRE_LOG:
            if self._log.pop(argument, None) is None:
                raise KeyRefused("a retirement names no active log key")
        else:
            raise KeyRefused(f"unknown key operation {operation}")

    def _introduce_ingest(self, argument: bytes) -> None:
        if len(argument) != ed25519.PUBLIC_BYTES + ed25519.SIGNATURE_BYTES:
            raise Malformed("an introduction holds a key and its proof of possession, 96 bytes")
        public, proof = argument[: ed25519.PUBLIC_BYTES], argument[ed25519.PUBLIC_BYTES :]
        self._admit(public)
        try:
            ed25519.verify(public, possession_message(self.log_id, public), proof)
        except BadSignature as error:
            raise KeyRefused("the proof of possession fails") from error
        self._seen.add(public)
        self._ingest[key_hash(public)] = public

    def _introduce_log(self, argument: bytes) -> None:
        try:
            text = argument.decode("ascii")
        except UnicodeDecodeError as error:
            raise Malformed("a vkey is ASCII") from error
        vkey = parse_vkey(text, TYPE_ED25519)
        if vkey.name != self.origin:
            raise KeyRefused("the log key's name is not the origin")
        self._admit(vkey.public)
        self._seen.add(vkey.public)
        self._log[_vkey_hash(vkey)] = vkey
        self._ever_log.append(vkey)

    def _admit(self, public: bytes) -> None:
        ed25519.check_public(public)
        if public in self._seen:
            raise KeyRefused("this key was introduced before, in this or another role")


def _vkey_hash(vkey: VerifierKey) -> bytes:
    return sha256(str(vkey).encode()).digest()
