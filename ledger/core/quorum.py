"""Trust policies: which logs and witnesses count, and how many witnesses have to have cosigned a checkpoint.

Source: c2sp.org/tlog-policy. Of its key types those of Ed25519 are read. Where a policy lies is not known here.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import NamedTuple

from ledger.core.errors import KeyRefused, Malformed
from ledger.core.note import TYPE_COSIGNATURE, TYPE_ED25519, Checkpoint, VerifierKey, parse_vkey

MAX_POLICY_BYTES = 256 * 1024
MAX_MEMBERS = 1_024
"""Of logs, witnesses and groups of one policy, each; C2SP asks for at least 32."""
NONE = "none"

_SPACE = re.compile(r"[ \t]+")
_THRESHOLD = re.compile(r"[1-9][0-9]{0,3}")


class LogEntry(NamedTuple):
    """A log that is trusted to sign checkpoints; its origin is the vkey's name."""

    vkey: VerifierKey
    url: str | None


class WitnessEntry(NamedTuple):
    """A witness. `name` has a meaning in this policy alone; `url` is the submission prefix of c2sp.org/tlog-witness."""

    name: str
    vkey: VerifierKey
    url: str | None


class Group(NamedTuple):
    """Counts as one that witnessed where at least `threshold` of its members have."""

    name: str
    threshold: int
    members: tuple[str, ...]


class TrustPolicy(NamedTuple):
    """A parsed policy. `groups` stand in an order in which members come before the groups that they are in."""

    logs: tuple[LogEntry, ...] = ()
    witnesses: tuple[WitnessEntry, ...] = ()
    groups: tuple[Group, ...] = ()
    quorum: str = NONE

    def satisfied(self, cosigned: Collection[VerifierKey]) -> bool:
        """Whether witnesses with these keys are a quorum; keys that the policy does not name count nothing."""
        if self.quorum == NONE:
            return True
        agreed = {witness.name for witness in self.witnesses if witness.vkey in cosigned}
        for group in self.groups:
            if sum(member in agreed for member in group.members) >= group.threshold:
                agreed.add(group.name)
        return self.quorum in agreed

    def cosigners(self, checkpoint: Checkpoint) -> tuple[WitnessEntry, ...]:
        """The witnesses whose cosignature the checkpoint carries; a false line of one of them is `BadSignature`."""
        return tuple(w for w in self.witnesses if checkpoint.cosigned_at(w.vkey) is not None)

    def accepts(self, checkpoint: Checkpoint) -> bool:
        """Whether the checkpoint carries cosignatures of a quorum; `BadSignature` as above."""
        return self.satisfied([witness.vkey for witness in self.cosigners(checkpoint)])


def parse_policy(text: str) -> TrustPolicy:
    """A policy file. `Malformed` names the line.

    The format is one of octets: text read as UTF-8, or as Latin-1 where it is none, keeps names apart as it asks.
    """
    if len(text) > MAX_POLICY_BYTES:
        raise Malformed(f"a trust policy has at most {MAX_POLICY_BYTES} bytes")
    reader = _Reader()
    for number, line in enumerate(text.split("\n"), start=1):
        try:
            reader.read(line)
        except (Malformed, KeyRefused) as error:
            raise Malformed(f"line {number} of the trust policy: {error}") from error
    if reader.quorum is None:
        raise Malformed("the trust policy has no quorum line; `quorum none` asks for no witness")
    return TrustPolicy(tuple(reader.logs), tuple(reader.witnesses), tuple(reader.groups), reader.quorum)


class _Reader:
    """Takes line after line; what it has taken is consistent."""

    def __init__(self) -> None:
        self.logs: list[LogEntry] = []
        self.witnesses: list[WitnessEntry] = []
        self.groups: list[Group] = []
        self.quorum: str | None = None
        self._names: set[str] = set()
        self._members: set[str] = set()

    def read(self, line: str) -> None:
        if any((c < " " and c != "\t") or c == "\x7f" for c in line):
            raise Malformed("a control character other than tab and newline")
        words = [word for word in _SPACE.split(line) if word]
        if not words or words[0].startswith("#"):
            return
        keyword, *rest = words
        forms = {"log": self._log, "witness": self._witness, "group": self._group, "quorum": self._quorum}
        if keyword not in forms:
            raise Malformed(f"{keyword[:40]!r} is no keyword: log, witness, group or quorum")
        forms[keyword](rest)

    def _log(self, words: Sequence[str]) -> None:
        if len(words) not in (1, 2):
            raise Malformed("expected: log <vkey> [<url>]")
        vkey = parse_vkey(words[0], TYPE_ED25519)
        if any(log.vkey.public == vkey.public for log in self.logs):
            raise Malformed("a log with this public key is there already")
        _refuse_beyond(self.logs)
        self.logs.append(LogEntry(vkey, words[1] if len(words) == 2 else None))

    def _witness(self, words: Sequence[str]) -> None:
        if len(words) not in (2, 3):
            raise Malformed("expected: witness <name> <vkey> [<url>]")
        vkey = parse_vkey(words[1], TYPE_COSIGNATURE)
        if any(witness.vkey.public == vkey.public for witness in self.witnesses):
            raise Malformed("a witness with this public key is there already")
        _refuse_beyond(self.witnesses)
        self._name(words[0])
        self.witnesses.append(WitnessEntry(words[0], vkey, words[2] if len(words) == 3 else None))

    def _group(self, words: Sequence[str]) -> None:
        if len(words) < 3:
            raise Malformed("expected: group <name> <any|all|k> <member>...")
        name, threshold, *members = words
        for member in members:
            self._known(member)
            if member in self._members:
                raise Malformed(f"{member[:80]!r} is a member of a group already")
            self._members.add(member)
        least = {"any": 1, "all": len(members)}.get(threshold)
        if least is None:
            if _THRESHOLD.fullmatch(threshold) is None:
                raise Malformed("a threshold is any, all, or a number without a leading zero")
            least = int(threshold)
        if least > len(members):
            raise Malformed(f"{least} of {len(members)} members can never have witnessed")
        _refuse_beyond(self.groups)
        self._name(name)
        self.groups.append(Group(name, least, tuple(members)))

    def _quorum(self, words: Sequence[str]) -> None:
        if len(words) != 1:
            raise Malformed("expected: quorum <name>, or quorum none")
        if self.quorum is not None:
            raise Malformed("a second quorum line")
        if words[0] != NONE:
            self._known(words[0])
        self.quorum = words[0]

    def _name(self, name: str) -> None:
        if name == NONE or name in self._names:
            raise Malformed(f"the name {name[:80]!r} is taken")
        self._names.add(name)

    def _known(self, name: str) -> None:
        if name not in self._names:
            raise Malformed(f"no line above defines {name[:80]!r}")


def _refuse_beyond(defined: Sequence[object]) -> None:
    if len(defined) >= MAX_MEMBERS:
        raise Malformed(f"more than {MAX_MEMBERS} lines of one kind")
