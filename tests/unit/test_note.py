"""Checkpoints, vkeys, signatures and cosignatures: C2SP to the letter, and nothing beside it (rules 1 and 4)."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ledger.core import note
from ledger.core.encoding import encode_base64
from ledger.core.errors import BadSignature, KeyRefused, LedgerError, Malformed
from tests.logbuilder import LogBuilder, key, witness

LOG = LogBuilder()
LOG.events(3)
VKEY = LOG.log_vkey
CHECKPOINT = LOG.checkpoint(cosigned=[("witness.example/w1", 1_795_230_100)])
TEXT = CHECKPOINT.encode()
BODY, SIGNATURES = TEXT.split(b"\n\n")
ORIGIN, SIZE, ROOT = BODY.split(b"\n")
LINE = SIGNATURES.split(b"\n")[0]


def test_a_checkpoint_comes_back_byte_for_byte() -> None:
    assert note.parse_checkpoint(TEXT) == CHECKPOINT
    assert note.parse_checkpoint(TEXT).encode() == TEXT
    assert CHECKPOINT.body == BODY + b"\n"


def test_the_log_key_signed_it_and_a_stranger_did_not() -> None:
    assert CHECKPOINT.signed_by(VKEY)
    assert not CHECKPOINT.signed_by(LOG.vkey(key("stranger")))
    assert not CHECKPOINT.signed_by(VKEY._replace(name="ledger.example/we-nera.com"))


@given(st.integers(0, len(TEXT) - 1), st.integers(0, 255))
def test_one_altered_byte_is_malformed_or_leaves_the_log_keys_signature_missing_or_bad(at: int, byte: int) -> None:
    altered = TEXT[:at] + bytes((byte,)) + TEXT[at + 1 :]
    if altered == TEXT:
        return
    try:
        parsed = note.parse_checkpoint(altered)
        assert parsed.encode() == altered
        both = parsed.signed_by(VKEY) and parsed.cosigned_at(witness()) is not None
    except (Malformed, BadSignature):
        return
    assert not both


@given(st.binary(max_size=400))
@example(TEXT[:-1])
@example(b"\n\n")
def test_any_bytes_are_a_checkpoint_or_malformed(data: bytes) -> None:
    with contextlib.suppress(Malformed):
        assert note.parse_checkpoint(data).encode() == data


NOT_CHECKPOINTS = {
    "empty": b"",
    "no signatures": BODY + b"\n\n",
    "no empty line": BODY + b"\n" + SIGNATURES,
    "two lines": ORIGIN + b"\n" + SIZE + b"\n\n" + SIGNATURES,
    "four lines": BODY + b"\nextension\n\n" + SIGNATURES,
    "two empty lines": BODY + b"\n\n\n" + SIGNATURES,
    "no last newline": TEXT[:-1],
    "another newline": TEXT + b"\n",
    "carriage returns": TEXT.replace(b"\n", b"\r\n"),
    "a tab": TEXT.replace(b"\n4\n", b"\n\t4\n"),
    "a NUL": TEXT.replace(b"\n4\n", b"\n\x004\n"),
    "not UTF-8": TEXT + b"\xff\n",
    "too long": TEXT + LINE * 1000,
    "a padded size": TEXT.replace(b"\n4\n", b"\n04\n"),
    "a signed size": TEXT.replace(b"\n4\n", b"\n+4\n"),
    "a size with a space": TEXT.replace(b"\n4\n", b"\n 4\n"),
    "a size in Arabic digits": TEXT.replace(b"\n4\n", "\n٤\n".encode()),
    "a size with an underscore": TEXT.replace(b"\n4\n", b"\n1_0\n"),
    "a size of 2^53": TEXT.replace(b"\n4\n", b"\n9007199254740992\n"),
    "no size": TEXT.replace(b"\n4\n", b"\n\n"),
    "a root of 31 bytes": TEXT.replace(ROOT, encode_base64(bytes(31)).encode()),
    "a root of 33 bytes": TEXT.replace(ROOT, encode_base64(bytes(33)).encode()),
    "a root without padding": TEXT.replace(ROOT, ROOT.rstrip(b"=")),
    "a root in the other alphabet": TEXT.replace(ROOT, encode_base64(b"\xff" * 32).encode().replace(b"/", b"_")),
    "a root with spare bits": TEXT.replace(ROOT, ROOT[:-2] + bytes((ROOT[-2] + 1,)) + b"="),
    "an origin without prefix": TEXT.replace(ORIGIN, b"weco.nexaxt.com"),
    "an origin without dot in its site": TEXT.replace(ORIGIN, b"ledger.example/weco"),
    "an origin with a plus": TEXT.replace(ORIGIN, b"ledger.example/we+co.nexaxt.com"),
    "an origin with a space": TEXT.replace(ORIGIN, b"ledger.example/we co.nexaxt.com"),
    "an origin that is not ASCII": TEXT.replace(ORIGIN, "ledger.example/wécо.com".encode()),
    "an origin of 256 bytes": TEXT.replace(ORIGIN, b"a" * 249 + b"/b.kz.c"),
    "an empty origin": TEXT.replace(ORIGIN, b""),
    "a hyphen for the dash": BODY + b"\n\n" + LINE.replace("—".encode(), b"-") + b"\n",
    "two spaces": BODY + b"\n\n" + LINE.replace("— ".encode(), "—  ".encode()) + b"\n",
    "a signature without name": BODY + b"\n\n" + "—  AAAAAAA=".encode() + b"\n",
    "a signature without value": BODY + b"\n\n" + "— name".encode() + b"\n",
    "a signature of a keyID alone": BODY + b"\n\n" + "— name AAAAAA==".encode() + b"\n",
    "a signature in loose base64": BODY + b"\n\n" + "— name AAAAAAB=".encode() + b"\n",
    "something behind the signature": BODY + b"\n\n" + LINE + b" more\n",
    "an empty signature line": BODY + b"\n\n" + LINE + b"\n\n" + LINE + b"\n",
    "101 signatures": BODY + b"\n\n" + (LINE + b"\n") * 101,
}


@pytest.mark.parametrize("name", NOT_CHECKPOINTS)
def test_a_checkpoint_is_parsed_strictly(name: str) -> None:
    assert NOT_CHECKPOINTS[name] != TEXT
    with pytest.raises(Malformed):
        note.parse_checkpoint(NOT_CHECKPOINTS[name])


def test_a_hundred_signatures_are_read_and_a_size_just_below_2_to_the_53() -> None:
    text = BODY.replace(b"\n4\n", b"\n9007199254740991\n") + b"\n\n" + (LINE + b"\n") * 100
    parsed = note.parse_checkpoint(text)
    assert (parsed.size, len(parsed.signatures)) == (2**53 - 1, 100)


def test_signature_lines_of_unknown_keys_are_kept_and_mean_nothing() -> None:
    unknown = note.Signature("some.example/log", b"1234", b"whatever")
    made = CHECKPOINT._replace(signatures=(unknown, *CHECKPOINT.signatures))
    parsed = note.parse_checkpoint(made.encode())
    assert parsed == made
    assert parsed.signed_by(VKEY)


def test_a_line_under_a_known_key_that_does_not_verify_is_bad_even_beside_a_good_one() -> None:
    bad = note.Signature(VKEY.name, VKEY.key_id, bytes(64))
    for value in (bytes(64), b"short", CHECKPOINT.signatures[0].value + b"!"):
        made = CHECKPOINT._replace(signatures=(*CHECKPOINT.signatures, bad._replace(value=value)))
        with pytest.raises(BadSignature):
            made.signed_by(VKEY)


def test_a_signature_covers_the_three_lines_and_not_the_names_of_signers() -> None:
    for changed in (CHECKPOINT._replace(size=5), CHECKPOINT._replace(root=bytes(32))):
        with pytest.raises(BadSignature):
            changed.signed_by(VKEY)


def test_only_the_owner_of_a_vkey_signs_under_it() -> None:
    with pytest.raises(KeyRefused):
        note.sign_checkpoint(CHECKPOINT, VKEY, key("stranger"))


# Cosignatures


def test_the_latest_of_a_witnesss_cosignatures_counts() -> None:
    made = LOG.checkpoint(cosigned=[("witness.example/w1", 20), ("witness.example/w1", 30), ("witness.example/w1", 10)])
    assert made.cosigned_at(witness()) == 30
    assert made.cosigned_at(witness("other.example/w")) is None


def test_a_cosignature_of_another_time_is_bad() -> None:
    line = CHECKPOINT.signatures[-1]
    later = (int.from_bytes(line.value[:8], "big") + 1).to_bytes(8, "big")
    for value in (later + line.value[8:], line.value[:-1], line.value + b"!", bytes(72)):
        with pytest.raises(BadSignature):
            CHECKPOINT._replace(signatures=(line._replace(value=value),)).cosigned_at(witness())


def test_a_cosignature_is_for_one_checkpoint() -> None:
    with pytest.raises(BadSignature):
        CHECKPOINT._replace(size=3).cosigned_at(witness())


def test_a_cosignature_beyond_2_to_the_53_seconds_is_bad() -> None:
    with pytest.raises(BadSignature):
        LOG.checkpoint(cosigned=[("witness.example/w1", 2**53)]).cosigned_at(witness())


def test_a_checkpoint_signature_is_no_cosignature() -> None:
    name = witness()._replace(name="witness.example/w1")
    signature = note.Signature(name.name, name.key_id, key("witness.example/w1").sign(CHECKPOINT.body))
    with pytest.raises(BadSignature):
        CHECKPOINT._replace(signatures=(signature,)).cosigned_at(name)


# Verifier keys

NAME, HEX_ID, KEY = str(VKEY).split("+", 2)


def vkey_text(name: str, type_: int, public: bytes) -> str:
    return str(note.VerifierKey(name, type_, public))


@pytest.mark.parametrize(
    "text",
    [
        "",
        NAME,
        f"{NAME}+{HEX_ID}",
        f"+{HEX_ID}+{KEY}",
        f"{NAME}+{HEX_ID.upper()}+{KEY}" if HEX_ID.upper() != HEX_ID else f"{NAME}+{HEX_ID}0+{KEY}",
        f"{NAME}+00000000+{KEY}",
        f"{NAME}+{HEX_ID}+{KEY} ",
        f"{NAME}+{HEX_ID}+{KEY.rstrip('=')[:-1]}",
        f"{NAME} +{HEX_ID}+{KEY}",
        f"other+{HEX_ID}+{KEY}",
        vkey_text(NAME, 1, VKEY.public[:-1]),
        vkey_text(NAME, 1, VKEY.public + b"!"),
        vkey_text(NAME, 4, VKEY.public),
        vkey_text(NAME, 6, VKEY.public),
        vkey_text("a\u00a0b", 1, VKEY.public),
    ],
)
def test_a_vkey_is_parsed_strictly(text: str) -> None:
    with pytest.raises(Malformed):
        note.parse_vkey(text, note.TYPE_ED25519)


@given(st.text(max_size=120))
def test_any_text_is_a_vkey_or_malformed(text: str) -> None:
    with contextlib.suppress(LedgerError):
        assert str(note.parse_vkey(text, note.TYPE_ED25519)) == text


def test_a_vkey_comes_back_the_same() -> None:
    assert note.parse_vkey(str(VKEY), note.TYPE_ED25519) == VKEY
    assert note.parse_vkey(str(witness()), note.TYPE_COSIGNATURE) == witness()


@pytest.mark.parametrize("point", [bytes(32), (1).to_bytes(32, "little"), b"\xff" * 32, (2).to_bytes(32, "little")])
def test_a_vkey_of_a_weak_point_is_refused(point: bytes) -> None:
    with pytest.raises(KeyRefused):
        note.parse_vkey(vkey_text(NAME, 1, point), note.TYPE_ED25519)


# Origins and sites


@pytest.mark.parametrize("origin", ["ledger.example/weco.nexaxt.com", "a/b/c/d.e", "x" * 250 + "/b.kz"])
def test_an_origin_is_a_prefix_and_a_site(origin: str) -> None:
    assert note.check_origin(origin) == origin.rpartition("/")[2]


@pytest.mark.parametrize("site", ["weco.nexaxt.com", "a.b", "xn--e1aybc.xn--p1ai", "1.2.3.kz"])
def test_a_site_is_a_host_name_with_a_dot(site: str) -> None:
    assert note.check_site(site) == site


@pytest.mark.parametrize(
    "site", ["", "localhost", "WECO.com", "-a.b", "a-.b", "a..b", ".a.b", "a.b.", "a_b.c", "a.b\n", "a" * 190 + ".b"]
)
def test_what_is_no_host_name_is_no_site(site: str) -> None:
    with pytest.raises(Malformed):
        note.check_site(site)
