"""Proofs as text (c2sp.org/tlog-proof): one form, both ways."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.core.encoding import encode_base64
from ledger.core.errors import LedgerError, Malformed, ProofInvalid
from ledger.core.merkle import inclusion_proof, subtrees_of
from ledger.core.tlog_proof import TlogProof, encode_proof, parse_proof
from tests.logbuilder import LogBuilder

LOG = LogBuilder()
LOG.events(12)


def proof_of(index: int, size: int = len(LOG.leaves)) -> TlogProof:
    hashes = inclusion_proof(index, size, subtrees_of(LOG.leaves[:size]))
    return TlogProof(index, tuple(hashes), LOG.checkpoint(size, cosigned=[("witness.example/w1", 1_795_230_100)]))


@pytest.mark.parametrize(("index", "size"), [(0, 1), (0, 2), (6, 13), (12, 13), (7, 8)])
def test_a_proof_reads_back_as_it_was_written_and_leads_to_its_root(index: int, size: int) -> None:
    proof = proof_of(index, size)
    text = proof.encode()
    assert parse_proof(text) == proof
    assert text == encode_proof(index, proof.hashes, proof.checkpoint.encode())
    proof.check(LOG.leaves[index])
    if size > 1:
        with pytest.raises(ProofInvalid):
            proof.check(LOG.leaves[index - 1])


TEXT = proof_of(6).encode().decode()
LINES = TEXT.split("\n")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        TEXT.replace("@v1", "@v2"),
        TEXT.replace("@v1\n", "@v1\nextra AAAA\n"),
        TEXT.replace("index 6", "index 06"),
        TEXT.replace("index 6", "index +6"),
        TEXT.replace("index 6", "index  6"),
        TEXT.replace("index 6", "Index 6"),
        TEXT.replace("index 6\n", ""),
        LINES[0] + "\n\n" + TEXT.partition("\n\n")[2],
        TEXT.replace("index 6", "index 13"),
        TEXT.replace("index 6", "index 9007199254740992"),
        TEXT.replace("\n\n", "\n", 1),
        TEXT.replace("\n\n", "\n\n\n", 1),
        TEXT.replace(LINES[2], LINES[2] + " "),
        TEXT.replace(LINES[2], LINES[2].rstrip("=")),
        TEXT.replace(LINES[2], encode_base64(bytes(31))),
        TEXT.replace("\n", "\r\n"),
        "\ufeff" + TEXT,
        " " + TEXT,
        TEXT + "\n",
        TEXT[:-1],
        TEXT.replace(LINES[2] + "\n", f"{LINES[2]}\n" * 64),
        TEXT.replace(LINES[2], LINES[2] + "é"),
    ],
)
def test_another_form_is_refused(text: str) -> None:
    with pytest.raises(Malformed):
        parse_proof(text.encode())


@given(st.integers(0, len(TEXT.encode()) - 1), st.integers(1, 255))
def test_no_changed_byte_reads_as_the_same_proof(at: int, flip: int) -> None:
    data = bytearray(TEXT.encode())
    data[at] ^= flip
    try:
        parsed = parse_proof(bytes(data))
    except LedgerError:
        return
    assert parsed.encode() == bytes(data) != TEXT.encode()
