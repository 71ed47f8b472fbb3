"""The text that proves one entry's place in a log: index, inclusion proof and signed checkpoint. Source:
c2sp.org/tlog-proof, without its `extra` line (SPEC.md section 13).

Parsed strictly and encoded; whether the proof leads to the checkpoint's root, and who signed it, is the reader's
question.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ledger.core.encoding import decode_base64, decode_decimal, encode_base64
from ledger.core.errors import Malformed
from ledger.core.merkle import HASH_BYTES, MAX_PROOF_HASHES, check_inclusion
from ledger.core.note import MAX_CHECKPOINT_BYTES, Checkpoint, parse_checkpoint

VERSION_LINE = "c2sp.org/tlog-proof@v1"
MAX_PROOF_BYTES = MAX_CHECKPOINT_BYTES + 4_096
"""A checkpoint, 64 hashes of 45 bytes with their line ends, and the two lines above them."""

_INDEX = "index "


@dataclass(frozen=True, slots=True)
class TlogProof:
    """`index` of the leaf, the hashes of 32 bytes from the leaf upwards, and the checkpoint that they lead to."""

    index: int
    hashes: tuple[bytes, ...]
    checkpoint: Checkpoint

    def encode(self) -> bytes:
        """The text as UTF-8, media type `text/plain`."""
        return encode_proof(self.index, self.hashes, self.checkpoint.encode())

    def check(self, leaf: bytes) -> None:
        """Raise `ProofInvalid` unless the leaf hash lies at `index` of the checkpoint's tree. Signatures are not
        looked at."""
        check_inclusion(leaf, self.index, self.checkpoint.size, self.hashes, self.checkpoint.root)


def encode_proof(index: int, hashes: Sequence[bytes], checkpoint: bytes) -> bytes:
    """The text around the exact bytes of a signed checkpoint, for a server that has them and need not parse them."""
    lines = [VERSION_LINE, f"{_INDEX}{index}", *(encode_base64(sibling) for sibling in hashes), "", ""]
    return "\n".join(lines).encode() + checkpoint


def parse_proof(data: bytes) -> TlogProof:
    """The parts of a proof's text; `Malformed` unless it is in its one form and the index is below the size."""
    if len(data) > MAX_PROOF_BYTES:
        raise Malformed(f"a proof has at most {MAX_PROOF_BYTES} bytes")
    head, gap, checkpoint = data.partition(b"\n\n")
    try:
        lines = head.decode("ascii").split("\n")
    except UnicodeDecodeError as error:
        raise Malformed("the lines of a proof above its checkpoint are ASCII") from error
    if lines[0] != VERSION_LINE:
        raise Malformed(f"a proof begins with the line {VERSION_LINE}")
    if not gap or len(lines) < 2 or not lines[1].startswith(_INDEX):
        raise Malformed("a proof has an index line, its hashes, an empty line and a checkpoint")
    if len(lines) - 2 > MAX_PROOF_HASHES:
        raise Malformed(f"an inclusion proof has at most {MAX_PROOF_HASHES} hashes")
    index = decode_decimal(lines[1].removeprefix(_INDEX))
    hashes = tuple(decode_base64(line) for line in lines[2:])
    if any(len(sibling) != HASH_BYTES for sibling in hashes):
        raise Malformed("a hash of an inclusion proof has 32 bytes")
    parsed = parse_checkpoint(checkpoint)
    if index >= parsed.size:
        raise Malformed("the proof's index is not below the checkpoint's size")
    return TlogProof(index, hashes, parsed)
