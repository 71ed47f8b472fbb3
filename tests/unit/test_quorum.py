"""Trust policies (c2sp.org/tlog-policy): the specification's example, each sentence of it, and strangers' files."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.core.encoding import encode_base64
from ledger.core.errors import BadSignature, ConfigInvalid, Malformed
from ledger.core.note import VerifierKey
from ledger.core.quorum import MAX_POLICY_BYTES, TrustPolicy, parse_policy
from ledger.witness.policy import read_policy
from tests.logbuilder import LogBuilder, key, witness

LOG = LogBuilder()
NAMES = ("X1", "X2", "X3", "Y1", "Y2", "Y3")
VKEYS = {name: witness(f"witness.example/{name}") for name in NAMES}
EXAMPLE = f"""\
log {LOG.log_vkey}

witness X1 {VKEYS["X1"]}
witness X2 {VKEYS["X2"]}
witness X3 {VKEYS["X3"]}
group X-witnesses 2 X1 X2 X3

witness Y1 {VKEYS["Y1"]}
witness Y2 {VKEYS["Y2"]}
witness Y3 {VKEYS["Y3"]}
group Y-witnesses any Y1 Y2 Y3

group X-and-Y all X-witnesses Y-witnesses
quorum X-and-Y
"""


def test_the_example_of_the_specification_counts_two_of_x_and_one_of_y() -> None:
    policy = parse_policy(EXAMPLE)
    for count in range(len(NAMES) + 1):
        for cosigned in combinations(NAMES, count):
            enough = sum(n.startswith("X") for n in cosigned) >= 2 and any(n.startswith("Y") for n in cosigned)
            assert policy.satisfied([VKEYS[name] for name in cosigned]) is enough, cosigned


def test_what_a_policy_holds_can_be_read_from_it() -> None:
    policy = parse_policy(EXAMPLE.replace(f"Y3 {VKEYS['Y3']}", f"Y3 {VKEYS['Y3']} https://w.example/y3"))
    assert [log.vkey for log in policy.logs] == [LOG.log_vkey]
    assert [(w.name, w.vkey, w.url) for w in policy.witnesses][-2:] == [
        ("Y2", VKEYS["Y2"], None),
        ("Y3", VKEYS["Y3"], "https://w.example/y3"),
    ]
    assert policy.quorum == "X-and-Y"


def test_without_a_quorum_no_cosignature_is_needed_and_without_a_file_there_is_no_quorum() -> None:
    assert parse_policy("quorum none\n").satisfied([])
    assert read_policy(None) == TrustPolicy()
    assert TrustPolicy().satisfied([])


def test_a_single_witness_can_be_the_quorum() -> None:
    policy = parse_policy(f"witness one {VKEYS['X1']}\nquorum one\n")
    assert policy.satisfied([VKEYS["X1"]])
    assert not policy.satisfied([VKEYS["X2"]])


def test_keys_that_the_policy_does_not_name_count_nothing() -> None:
    policy = parse_policy(EXAMPLE)
    stranger = [VerifierKey(VKEYS[name].name, 4, key("stranger").public) for name in NAMES]
    assert not policy.satisfied(stranger)
    assert not policy.satisfied([VKEYS["X1"], VKEYS["X1"], VKEYS["Y1"]])  # one that cosigned twice is one


def test_a_checkpoint_is_accepted_with_cosignatures_of_a_quorum_and_refused_with_a_false_one() -> None:
    policy = parse_policy(EXAMPLE)
    times = [(f"witness.example/{name}", 1_795_230_100) for name in ("X1", "X3", "Y2")]
    checkpoint = LOG.checkpoint(cosigned=times)
    assert policy.accepts(checkpoint)
    assert not policy.accepts(LOG.checkpoint(cosigned=times[:2]))
    assert not policy.accepts(LOG.checkpoint())
    false = checkpoint.signatures[1]._replace(value=bytes(72))
    with pytest.raises(BadSignature):
        policy.accepts(checkpoint._replace(signatures=(*checkpoint.signatures, false)))


def test_white_space_comments_and_the_order_of_witnesses_mean_nothing() -> None:
    text = f" \t# a comment\n\n\twitness  one\t{VKEYS['X1']} \n#quorum one\n  quorum\tone  "
    assert parse_policy(text).quorum == "one"


def test_a_name_is_its_octets_and_nothing_else() -> None:
    kelvin = parse_policy(f"witness K {VKEYS['X1']}\nwitness \u212a {VKEYS['X2']}\nquorum \u212a\n")
    assert kelvin.satisfied([VKEYS["X2"]])
    assert not kelvin.satisfied([VKEYS["X1"]])


ONE = f"witness one {VKEYS['X1']}\n"
TWO = f"{ONE}witness two {VKEYS['X2']}\n"
MALDSA = f"w.example+01020304+{encode_base64(bytes([6]) + bytes(1312))}"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "no quorum"),
        (ONE, "no quorum"),
        (f"quorum one\n{ONE}", "line 1"),  # before it is defined
        (f"{ONE}quorum one\nquorum one\n", "line 3"),
        (f"{ONE}quorum none\nquorum none\n", "line 3"),
        (f"{ONE}quorum\n", "line 2"),
        (f"{ONE}quorum one two\n", "line 2"),
        ("quorum nobody\n", "line 1"),
        (f"witness none {VKEYS['X1']}\nquorum none\n", "line 1"),
        (f"{ONE}group none any one\nquorum none\n", "line 2"),
        (f"{ONE}witness one {VKEYS['X2']}\nquorum one\n", "line 2"),
        (f"{ONE}witness two {VKEYS['X1']}\nquorum one\n", "line 2"),
        (f"{ONE}witness two {VerifierKey('other', 4, VKEYS['X1'].public)}\nquorum one\n", "line 2"),
        (f"log {LOG.log_vkey}\nlog {VerifierKey('other', 1, LOG.log_vkey.public)}\nquorum none\n", "line 2"),
        (f"log {VKEYS['X1']}\nquorum none\n", "line 1"),  # a witness's key
        (f"witness one {LOG.log_vkey}\nquorum one\n", "line 1"),  # a log's key
        (f"witness one {MALDSA}\nquorum one\n", "line 1"),
        (f"witness one {VerifierKey('w', 4, bytes(32))}\nquorum one\n", "line 1"),  # of small order
        ("witness one\nquorum none\n", "line 1"),
        (f"witness one {VKEYS['X1']} https://w.example more\nquorum one\n", "line 1"),
        ("log\nquorum none\n", "line 1"),
        (f"{ONE}group one any one\nquorum one\n", "line 2"),
        (f"{ONE}group g any\nquorum one\n", "line 2"),
        (f"{ONE}group g any none\nquorum g\n", "line 2"),
        (f"{ONE}group g any g\nquorum g\n", "line 2"),
        (f"group g any one\n{ONE}quorum g\n", "line 1"),
        (f"{TWO}group g any one one\nquorum g\n", "line 3"),
        (f"{TWO}group g any one\ngroup h any one two\nquorum h\n", "line 4"),
        (f"{TWO}group g 3 one two\nquorum g\n", "line 3"),
        (f"{TWO}group g 0 one two\nquorum g\n", "line 3"),
        (f"{TWO}group g 01 one two\nquorum g\n", "line 3"),
        (f"{TWO}group g -1 one two\nquorum g\n", "line 3"),
        (f"{TWO}group g \u0661 one two\nquorum g\n", "line 3"),
        (f"{TWO}group g most one two\nquorum g\n", "line 3"),
        (f"{ONE}Quorum one\n", "line 2"),
        (f"{ONE}quorum one\r\n", "line 2"),
        (f"{ONE}quorum one\x00\n", "line 2"),
        (f"{ONE}quorum one\x7f\n", "line 2"),
        (f"{ONE}quorum\x0bone\n", "line 2"),
        (f"{ONE}quorum\u00a0one\n", "line 2"),  # space and tab only
    ],
)
def test_a_policy_that_breaks_a_sentence_of_the_specification_is_refused_with_its_line(text: str, line: str) -> None:
    with pytest.raises(Malformed, match=line):
        parse_policy(text)


@pytest.mark.parametrize("threshold", ["1", "any"])
def test_any_is_one(threshold: str) -> None:
    policy = parse_policy(f"{TWO}group g {threshold} one two\nquorum g\n")
    assert policy.satisfied([VKEYS["X1"]])
    assert policy.satisfied([VKEYS["X2"]])
    assert not policy.satisfied([])


@pytest.mark.parametrize("threshold", ["2", "all"])
def test_all_is_every_one(threshold: str) -> None:
    policy = parse_policy(f"{TWO}group g {threshold} one two\nquorum g\n")
    assert not policy.satisfied([VKEYS["X1"]])
    assert policy.satisfied([VKEYS["X1"], VKEYS["X2"]])


def test_thirty_two_of_each_kind_are_read_and_a_boundless_file_is_not() -> None:
    lines = []
    for i in range(32):
        name = f"w.example/{i}"
        lines += [
            f"log {VerifierKey(name, 1, key(name).public)}",
            f"witness w{i} {witness(name)}",
            f"group g{i} all w{i}",
        ]
    policy = parse_policy("\n".join([*lines, "quorum g31", ""]))
    assert policy.satisfied([witness("w.example/31")])
    with pytest.raises(Malformed):
        parse_policy("#" * (MAX_POLICY_BYTES + 1) + "\nquorum none\n")


words = st.sampled_from(
    ["log", "witness", "group", "quorum", "any", "all", "none", "1", "2", "w", "g", "#", "\t", "\n", str(VKEYS["X1"])]
)


@given(st.lists(words | st.text(max_size=4), max_size=40).map(" ".join))
def test_whatever_stands_in_a_file_is_a_policy_or_malformed(text: str) -> None:
    try:
        policy = parse_policy(text)
    except Malformed:
        return
    assert policy.satisfied([w.vkey for w in policy.witnesses])  # all together are always a quorum


def test_a_file_is_read_with_its_name_in_the_complaint(tmp_path: Path) -> None:
    file = tmp_path / "policy"
    with pytest.raises(ConfigInvalid, match="cannot be read"):
        read_policy(file)
    file.write_bytes(EXAMPLE.encode())
    assert len(read_policy(file).witnesses) == 6
    file.write_bytes(b"# caf\xe9\nwitness \xff " + str(VKEYS["X1"]).encode() + b"\nquorum \xff\n")  # opaque octets
    assert read_policy(file).satisfied([VKEYS["X1"]])
    file.write_text("quorum x\n")
    with pytest.raises(ConfigInvalid, match=r"policy: line 1 of"):
        read_policy(file)
