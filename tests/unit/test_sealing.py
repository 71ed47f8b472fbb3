"""What is sealed opens for what it was sealed for, and nothing else: bytes altered, moved or cut off are refused."""

from __future__ import annotations

from hashlib import sha256

import pytest
from nacl import bindings

from ledger.core import sealing
from ledger.core.errors import Malformed, SealBroken
from ledger.core.sealing import Cipher, ColumnCipher, KeyName, Master, key_no_of, split_opening, unwrap, wrap

LOG, OTHER_LOG = sha256(b"log").digest(), sha256(b"other log").digest()
KEY, OTHER_KEY = sha256(b"key").digest(), sha256(b"other key").digest()
COMMIT, OTHER_COMMIT = sha256(b"commit").digest(), sha256(b"other commit").digest()
TEXT = b"s" * 32 + b'{"visitor":"visitor-0123456789abcdef"}'
MASTER = Master(1, sha256(b"master").digest())
NAME = KeyName(LOG, 7, "opening")
CIPHER = ColumnCipher(LOG, 7, KEY)
SEALED = CIPHER.seal("opening", COMMIT, TEXT)


def test_sealed_bytes_open_again_name_their_key_and_hold_nothing_in_clear() -> None:
    assert CIPHER.open("opening", COMMIT, SEALED) == TEXT
    assert key_no_of(SEALED) == 7
    assert len(SEALED) == len(TEXT) + sealing.OVERHEAD_BYTES
    assert TEXT[40:50] not in SEALED
    assert split_opening(TEXT) == (TEXT[:32], TEXT[32:])
    assert CIPHER.open("opening", COMMIT, CIPHER.seal("opening", COMMIT, b"")) == b""


@pytest.mark.parametrize(
    ("cipher", "column", "binding"),
    [
        (CIPHER, "opening", OTHER_COMMIT),
        (CIPHER, "request.details", COMMIT),
        (CIPHER, "openin", b"g" + COMMIT),
        (ColumnCipher(OTHER_LOG, 7, KEY), "opening", COMMIT),
        (ColumnCipher(LOG, 8, KEY), "opening", COMMIT),
        (ColumnCipher(LOG, 7, OTHER_KEY), "opening", COMMIT),
    ],
    ids=["another row", "another column", "a shifted border", "another site", "another number", "another key"],
)
def test_moved_elsewhere_they_do_not_open(cipher: ColumnCipher, column: str, binding: bytes) -> None:
    with pytest.raises(SealBroken):
        cipher.open(column, binding, SEALED)


def test_no_byte_of_them_can_be_altered_and_none_left_out_or_added() -> None:
    for at in range(len(SEALED)):
        for flip in (1, 128):
            altered = SEALED[:at] + bytes([SEALED[at] ^ flip]) + SEALED[at + 1 :]
            with pytest.raises(SealBroken):
                CIPHER.open("opening", COMMIT, altered)
        with pytest.raises(SealBroken):
            CIPHER.open("opening", COMMIT, SEALED[:at])
    for longer in (SEALED + b"\0", b"\0" + SEALED):
        with pytest.raises(SealBroken):
            CIPHER.open("opening", COMMIT, longer)


@pytest.mark.parametrize("sealed", [b"", SEALED[:32], b"\0" + SEALED[1:], b"\2" + SEALED[1:]])
def test_a_header_that_is_none_names_no_key(sealed: bytes) -> None:
    with pytest.raises(SealBroken):
        key_no_of(sealed)


def test_an_opening_without_a_whole_salt_is_none() -> None:
    with pytest.raises(SealBroken):
        split_opening(b"s" * 31)


def test_two_messages_never_share_a_nonce_whatever_the_random_generator_does() -> None:
    """The nonce depends on the message alone: the same again is the same bytes, any other has another nonce."""
    assert CIPHER.seal("opening", COMMIT, TEXT) == SEALED
    messages = [("opening", COMMIT, TEXT + bytes([n])) for n in range(50)]
    messages += [("opening", sha256(bytes([n])).digest(), TEXT) for n in range(50)]
    messages += [(f"column{n}", COMMIT, TEXT) for n in range(50)]
    nonces = {CIPHER.seal(*message)[5:17] for message in messages}
    nonces |= {
        ColumnCipher(LOG, 8, KEY).seal(*messages[0])[5:17],
        ColumnCipher(LOG, 7, OTHER_KEY).seal(*messages[0])[5:17],
    }
    assert len(nonces) == len(messages) + 2


def test_a_chosen_nonce_is_refused_even_by_who_has_the_key() -> None:
    """Whoever would seal with a nonce of his own, used before, is found by everybody who opens it."""
    associated = b"anything"
    cipher = Cipher(KEY)
    assert cipher.open(associated, cipher.seal(associated, TEXT)) == TEXT
    nonce = bytes(12)
    forged = nonce + bindings.crypto_aead_aes256gcm_encrypt(TEXT, associated, nonce, cipher._key)
    with pytest.raises(SealBroken, match="nonce"):
        cipher.open(associated, forged)


def test_a_wrapped_key_opens_under_its_secret_as_what_it_is_alone() -> None:
    wrapped = wrap(KEY, NAME, MASTER)
    assert unwrap(wrapped, NAME, MASTER) == KEY
    assert len(wrapped) == 61
    assert KEY not in wrapped
    for name in (NAME._replace(log_id=OTHER_LOG), NAME._replace(key_no=8), NAME._replace(role="hold")):
        with pytest.raises(SealBroken):
            unwrap(wrapped, name, MASTER)
    for master in (Master(2, MASTER.secret), Master(1, OTHER_KEY)):
        with pytest.raises(SealBroken):
            unwrap(wrapped, NAME, master)
    for altered in (wrapped[:-1], b"\2" + wrapped[1:], wrapped[:30] + bytes([wrapped[30] ^ 1]) + wrapped[31:], b""):
        with pytest.raises(SealBroken):
            unwrap(altered, NAME, MASTER)


def test_wrapped_anew_it_is_the_same_key_and_the_old_secret_opens_it_no_more() -> None:
    following = Master(2, OTHER_KEY)
    wrapped = wrap(unwrap(wrap(KEY, NAME, MASTER), NAME, MASTER), NAME, following)
    assert unwrap(wrapped, NAME, following) == KEY
    with pytest.raises(SealBroken):
        unwrap(wrapped, NAME, MASTER)
    with pytest.raises(SealBroken):
        unwrap(wrapped, NAME, MASTER._replace(version=2))


@pytest.mark.parametrize("name", [NAME._replace(key_no=0), NAME._replace(key_no=2**31), NAME._replace(role="root")])
def test_no_data_key_has_a_number_or_role_that_the_database_could_not_hold(name: KeyName) -> None:
    with pytest.raises(Malformed):
        wrap(KEY, name, MASTER)


def test_a_key_is_used_for_one_purpose_alone() -> None:
    """The key that encrypts, the one that makes nonces, the one that hashes and the stored one all differ."""
    cipher = Cipher(KEY)
    assert len({KEY, cipher._key, cipher._nonce_key, sealing.hashing_key(KEY)}) == 4
