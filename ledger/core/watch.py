"""What a monitor concludes from what it was shown: signatures, growth, forks, cosignatures, tiles; never openings.

It is given notes and tiles, whoever fetched them, and the time. What one finding rests on is in the finding: two signed
checkpoints that cannot both be of one log convict the log's key; everything else says that something is wrong here,
and leaves open who did it. Sources: RFC 6962 section 2.1, c2sp.org/tlog-tiles, c2sp.org/tlog-cosignature.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple

from ledger.core.errors import BadSignature, Malformed, ProofInvalid
from ledger.core.merkle import EMPTY_ROOT, HASH_BYTES, check_consistency, consistency_proof, join_edge
from ledger.core.note import Checkpoint, VerifierKey, parse_checkpoint
from ledger.core.proofs import Node, TileHashes, consistency_nodes, root_nodes, tile_at, tiles_for
from ledger.core.quorum import TrustPolicy
from ledger.core.tile import TILE_HEIGHT, TILE_WIDTH, Tile


class Kind(StrEnum):
    """What can be wrong. The first ones are faults: they stay until a person acknowledges them. The others are alarms:
    they last as long as their cause."""

    FORK = "fork"
    MALFORMED = "malformed"
    UNSIGNED = "unsigned"
    BAD_SIGNATURE = "bad-signature"
    COSIGNATURE = "cosignature"
    LOG_ID = "log-id"
    TILES = "tiles"
    ENTRIES = "entries"

    UNREACHABLE = "unreachable"
    REWOUND = "rewound"
    LAGGING = "lagging"
    SILENT = "silent"
    QUORUM = "quorum"
    STALE = "stale"
    GUARDED = "guarded"

    @property
    def is_fault(self) -> bool:
        return self in _FAULTS


_FAULTS = frozenset(
    {
        Kind.FORK,
        Kind.MALFORMED,
        Kind.UNSIGNED,
        Kind.BAD_SIGNATURE,
        Kind.COSIGNATURE,
        Kind.LOG_ID,
        Kind.TILES,
        Kind.ENTRIES,
    }
)


class Finding(NamedTuple):
    """One thing that is wrong. `rule` is the audit rule (0: none of them), `seq` the entry, where one is to blame;
    `notes` are the signed checkpoints that it rests on, and `tiles` what shows that they do not go together: from these
    anybody can rebuild the larger one's root, and the root that the smaller one should have had."""

    kind: Kind
    detail: str
    rule: int = 0
    seq: int | None = None
    notes: tuple[Checkpoint, ...] = ()
    tiles: tuple[tuple[Tile, bytes], ...] = ()


class Head(NamedTuple):
    """A tree head that was verified: as far as the monitor's knowledge of the log goes."""

    size: int
    root: bytes


def read_note(data: bytes, origin: str) -> Checkpoint | Finding:
    """What a server gave as its checkpoint (rule 1)."""
    try:
        checkpoint = parse_checkpoint(data)
    except Malformed as error:
        return Finding(Kind.MALFORMED, f"the checkpoint is none: {error}", 1)
    if checkpoint.origin != origin:
        return Finding(
            Kind.MALFORMED, f"the checkpoint is of {checkpoint.origin}, not of {origin}", 1, None, (checkpoint,)
        )
    return checkpoint


def signers(checkpoint: Checkpoint, known: Iterable[VerifierKey]) -> set[VerifierKey] | Finding:
    """Who of the known keys signed; a line of one of them that does not verify is a finding (rule 4)."""
    signed = set()
    for key in known:
        try:
            if checkpoint.signed_by(key):
                signed.add(key)
        except BadSignature:
            detail = f"a false signature of log key {key.key_id.hex()} under the checkpoint of size {checkpoint.size}"
            return Finding(Kind.BAD_SIGNATURE, detail, 4, None, (checkpoint,))
    return signed


def unsigned(checkpoint: Checkpoint, why: str) -> Finding:
    """No key that counts signed (rule 4)."""
    return Finding(
        Kind.UNSIGNED, f"the checkpoint of size {checkpoint.size} is signed by {why}", 4, None, (checkpoint,)
    )


def cosignatures(checkpoint: Checkpoint, policy: TrustPolicy) -> dict[VerifierKey, int] | Finding:
    """The latest time (unix seconds) at which each trusted witness cosigned; a false line is a finding (rule 6)."""
    times = {}
    for witness in policy.witnesses:
        try:
            seconds = checkpoint.cosigned_at(witness.vkey)
        except BadSignature as error:
            detail = f"a false cosignature of {witness.name} under the checkpoint of size {checkpoint.size}: {error}"
            return Finding(Kind.COSIGNATURE, detail, 6, None, (checkpoint,))
        if seconds is not None:
            times[witness.vkey] = seconds
    return times


def fresh(policy: TrustPolicy, seen: Mapping[str, int], now: int, max_age: int, max_ahead: int) -> bool:
    """Whether a quorum gave a sign of life of late: vkey -> each witness's latest time, all in unix seconds."""
    times = {witness.vkey: seen.get(str(witness.vkey), 0) for witness in policy.witnesses}
    return policy.satisfied([key for key, seconds in times.items() if now - max_age <= seconds <= now + max_ahead])


def fork(a: Checkpoint, b: Checkpoint, tiles: Mapping[tuple[int, int], bytes] | None = None) -> Finding:
    """Two checkpoints, signed by the log, that no one log can have; `tiles` are those that `judge_growth` had."""
    if a.size == b.size:
        return Finding(Kind.FORK, f"two signed checkpoints of size {a.size} have different roots", 4, None, (a, b))
    small, large = sorted((a, b), key=lambda checkpoint: checkpoint.size)
    detail = f"the log of size {large.size} does not continue the signed one of size {small.size}"
    shown = tuple((tile_at(level, n, large.size), hashes) for (level, n), hashes in sorted((tiles or {}).items()))
    return Finding(Kind.FORK, detail, 4, None, (small, large), shown)


# --- growth, from hash tiles ------------------------------------------------------------------------------------------


def tiles_of_growth(old: int, new: int) -> list[Tile]:
    """The tiles, as a log of `new` entries has them, from which `judge_growth` rebuilds both roots."""
    nodes: list[Node] = [*root_nodes(new), *root_nodes(old), *(consistency_nodes(old, new) if old else ())]
    return tiles_for(nodes, new)


class Growth(StrEnum):
    """How the tree behind one head relates to that behind another."""

    SOUND = "sound"
    FORK = "fork"
    TILES = "tiles"


def judge_growth(old: Head, new: Head, tiles: Mapping[tuple[int, int], bytes]) -> Growth:
    """Whether the log at `new` continues the one at `old`, by the tiles of `tiles_of_growth`: (level, n) -> hashes.

    `TILES`: they are missing, or not those behind `new`'s root; that says nothing of the log itself. `FORK`: they are
    those behind it, and have another root at `old`'s size; so, SHA-256 being what it is, no tiles could do better.
    """
    subtree = TileHashes(tiles)
    try:
        if join_edge([subtree(*node) for node in root_nodes(new.size)]) != new.root:
            return Growth.TILES
        if old.size == 0:
            return Growth.SOUND if old.root == EMPTY_ROOT else Growth.FORK
        root = join_edge([subtree(*node) for node in root_nodes(old.size)])
        check_consistency(old.size, new.size, consistency_proof(old.size, new.size, subtree), root, new.root)
    except (Malformed, ProofInvalid):
        return Growth.TILES
    return Growth.SOUND if root == old.root else Growth.FORK


def compare_leaves(tile: Tile, hashes: bytes | None, leaves: Sequence[bytes]) -> Finding | None:
    """A bottom tile beside the leaf hashes of the entries that it stands for (rule 2)."""
    if hashes == b"".join(leaves):
        return None
    if hashes is None or len(hashes) != len(leaves) * HASH_BYTES:
        return Finding(Kind.TILES, f"{tile.path} is missing, or has not {len(leaves)} hashes", 2)
    first = next(i for i, leaf in enumerate(leaves) if hashes[i * HASH_BYTES : (i + 1) * HASH_BYTES] != leaf)
    return Finding(Kind.TILES, f"{tile.path} does not hold the hashes of the entries", 2, tile.n * TILE_WIDTH + first)


def check_parents(
    level: int, roots: Mapping[int, bytes], tiles: Mapping[tuple[int, int], bytes], size: int
) -> Finding | None:
    """The hashes that full tiles of the level below must have in the tiles of `level` (rule 2): index -> root."""
    for index, root in roots.items():
        n, at = divmod(index, 1 << TILE_HEIGHT)
        if tiles.get((level, n), b"")[at * HASH_BYTES : (at + 1) * HASH_BYTES] != root:
            below, above = Tile(level - 1, index), tile_at(level, n, size)
            return Finding(Kind.TILES, f"{above.path} does not hold the root of {below.path}", 2)
    return None


def parents(old: int, new: int, level: int) -> range:
    """Of full tiles of the level below `level`: those that a log has at size `new`, and had not at `old`."""
    shift = TILE_HEIGHT * level
    return range(old >> shift, new >> shift)
