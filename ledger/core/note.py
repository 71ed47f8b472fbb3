"""Signed notes, checkpoints and cosignatures, exactly as C2SP defines them.

Sources: c2sp.org/signed-note, c2sp.org/tlog-checkpoint, c2sp.org/tlog-cosignature. Which keys count is core/keys.
"""

from __future__ import annotations

import re
import unicodedata
from hashlib import sha256
from typing import NamedTuple

from ledger.core import ed25519
from ledger.core.encoding import decode_base64, decode_decimal, encode_base64
from ledger.core.errors import BadSignature, KeyRefused, Malformed

TYPE_ED25519 = 1
TYPE_COSIGNATURE = 4
KEY_ID_BYTES = 4
MAX_ORIGIN_BYTES = 255
MAX_CHECKPOINT_BYTES = 64 * 1024
MAX_SIGNATURES = 100
MAX_COSIGNED_AT = 2**53

_ORIGIN = re.compile(r"[!-*,-~]+/[!-*,-.0-~]+")  # printable ASCII but space and "+"; the site after the last slash
_SITE = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)+")
_HEX_ID = re.compile(r"[0-9a-f]{8}")
_EM_DASH = "— "


def check_origin(origin: str) -> str:
    """The site of an origin `<prefix>/<site>`; `Malformed` if it breaks SPEC.md, "Origins"."""
    site = origin.rpartition("/")[2]
    if len(origin) > MAX_ORIGIN_BYTES or _ORIGIN.fullmatch(origin) is None or "." not in site:
        raise Malformed(
            f"{origin[:80]!r} is no origin: <prefix>/<site> in ASCII, no space, no '+', at most 255 bytes, "
            "and a dot in the site"
        )
    return site


def check_site(site: str) -> str:
    """A site is a host name in lower case with a dot."""
    if len(site) > 190 or _SITE.fullmatch(site) is None:
        raise Malformed(f"{site[:80]!r} is no site: a host name in lower case such as shop.example.com")
    return site


class VerifierKey(NamedTuple):
    """A public key with its name: `name+hex(keyID)+base64(type ‖ pub)`."""

    name: str
    type: int
    public: bytes

    @property
    def key_id(self) -> bytes:
        """H(name ‖ "\\n" ‖ type ‖ pub)[:4]: a hint, never a proof."""
        return sha256(self.name.encode() + b"\n" + bytes((self.type,)) + self.public).digest()[:KEY_ID_BYTES]

    def __str__(self) -> str:
        return f"{self.name}+{self.key_id.hex()}+{encode_base64(bytes((self.type,)) + self.public)}"


def parse_vkey(text: str, key_type: int) -> VerifierKey:
    """A vkey of the type wanted, its keyID recomputed and its point checked; `Malformed` or `KeyRefused` otherwise."""
    name, _, rest = text.partition("+")
    hex_id, _, key = rest.partition("+")
    if not _is_name(name) or _HEX_ID.fullmatch(hex_id) is None:
        raise Malformed("a vkey is name+hex(keyID)+base64(type ‖ public key)")
    data = decode_base64(key)
    if len(data) != 1 + ed25519.PUBLIC_BYTES or data[0] != key_type:
        raise Malformed(f"a vkey of type {key_type} with 32 bytes of key was expected")
    vkey = VerifierKey(name, data[0], data[1:])
    if vkey.key_id.hex() != hex_id:
        raise Malformed("the vkey's keyID does not belong to its name and key")
    ed25519.check_public(vkey.public)
    return vkey


def _is_name(name: str) -> bool:
    """c2sp.org/signed-note: non-empty, no Unicode space, no plus; and no control character."""
    return bool(name) and "+" not in name and not any(c.isspace() or unicodedata.category(c) == "Cc" for c in name)


class Signature(NamedTuple):
    """One signature line: `value` is what follows the keyID."""

    name: str
    key_id: bytes
    value: bytes

    def line(self) -> str:
        return f"{_EM_DASH}{self.name} {encode_base64(self.key_id + self.value)}\n"


class Checkpoint(NamedTuple):
    """A signed tree head; `signatures` in the order of the note, of known and unknown keys alike.

    `extensions`: further lines of the body, which a log of ours never has (rule 1) and another log may.
    """

    origin: str
    size: int
    root: bytes
    signatures: tuple[Signature, ...] = ()
    extensions: tuple[str, ...] = ()

    @property
    def body(self) -> bytes:
        """The lines that signatures cover."""
        lines = (self.origin, str(self.size), encode_base64(self.root), *self.extensions)
        return "".join(f"{line}\n" for line in lines).encode()

    def encode(self) -> bytes:
        return self.body + b"\n" + "".join(s.line() for s in self.signatures).encode()

    def signed_by(self, vkey: VerifierKey) -> bool:
        """Whether `vkey` (type 1) signed. A line under its name and keyID that does not verify is a `BadSignature`."""
        found = False
        for signature in self.signatures:
            if signature.name == vkey.name and signature.key_id == vkey.key_id:
                ed25519.verify(vkey.public, self.body, signature.value)
                found = True
        return found

    def cosigned_at(self, vkey: VerifierKey) -> int | None:
        """The latest unix time (seconds) at which witness `vkey` (type 4) cosigned; a false line is `BadSignature`."""
        return max(self.cosignature_times(vkey), default=None)

    def cosignature_times(self, vkey: VerifierKey) -> list[int]:
        """The unix times (seconds) of every line of witness `vkey` (type 4), often none; a false line is
        `BadSignature`."""
        times: list[int] = []
        for signature in self.signatures:
            if signature.name == vkey.name and signature.key_id == vkey.key_id:
                if len(signature.value) != 8 + ed25519.SIGNATURE_BYTES:
                    raise BadSignature("a cosignature/v1 has 72 bytes")
                seconds = int.from_bytes(signature.value[:8], "big")
                if seconds >= MAX_COSIGNED_AT:
                    raise BadSignature("a cosignature's time is below 2^53 seconds")
                ed25519.verify(vkey.public, cosignature_message(self.body, seconds), signature.value[8:])
                times.append(seconds)
        return times


def cosignature_message(body: bytes, seconds: int) -> bytes:
    """What a witness signs (cosignature/v1)."""
    return f"cosignature/v1\ntime {seconds}\n".encode() + body


def sign_checkpoint(checkpoint: Checkpoint, vkey: VerifierKey, key: ed25519.SigningKey) -> Checkpoint:
    """The checkpoint with one more signature by a log key."""
    if key.public != vkey.public:
        raise KeyRefused("the vkey does not belong to this private key")
    signature = Signature(vkey.name, vkey.key_id, key.sign(checkpoint.body))
    return checkpoint._replace(signatures=(*checkpoint.signatures, signature))


def parse_checkpoint(data: bytes) -> Checkpoint:
    """Parse a signed checkpoint of exactly three lines (rule 1); signatures are not yet verified."""
    checkpoint = parse_any_checkpoint(data)
    if checkpoint.extensions:
        raise Malformed("a checkpoint has three lines, an empty one, and signatures")
    check_origin(checkpoint.origin)
    return checkpoint


def parse_any_checkpoint(data: bytes) -> Checkpoint:
    """Parse a signed checkpoint of any C2SP log: its origin may be any line, and extension lines may follow."""
    if len(data) > MAX_CHECKPOINT_BYTES:
        raise Malformed(f"a checkpoint has at most {MAX_CHECKPOINT_BYTES} bytes")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Malformed("a checkpoint is UTF-8") from error
    if any((c < " " and c != "\n") or c == "\x7f" for c in text):
        raise Malformed("a checkpoint holds no control characters")
    body, gap, tail = text.rpartition("\n\n")
    lines = body.split("\n")
    if not gap or len(lines) < 3 or not all(lines):
        raise Malformed("a checkpoint has three lines, an empty one, and signatures")
    origin, size, root, *extensions = lines
    if len(origin.encode()) > MAX_ORIGIN_BYTES:
        raise Malformed(f"an origin has at most {MAX_ORIGIN_BYTES} bytes")
    root_hash = decode_base64(root)
    if len(root_hash) != 32:
        raise Malformed("a root hash has 32 bytes")
    return Checkpoint(origin, decode_decimal(size), root_hash, parse_signatures(tail), tuple(extensions))


def parse_signatures(text: str) -> tuple[Signature, ...]:
    """The signature lines of a note, from 1 to 100; each ends with a newline."""
    if not text.endswith("\n"):
        raise Malformed("the last signature line does not end")
    lines = text[:-1].split("\n")
    if len(lines) > MAX_SIGNATURES:
        raise Malformed(f"a checkpoint has at most {MAX_SIGNATURES} signatures")
    return tuple(_parse_signature(line) for line in lines)


def _parse_signature(line: str) -> Signature:
    if not line.startswith(_EM_DASH):
        raise Malformed("a signature line begins with an em dash and a space")
    name, space, value = line[len(_EM_DASH) :].partition(" ")
    if not space or not _is_name(name):
        raise Malformed("a signature line is: em dash, name, base64")
    data = decode_base64(value)
    if len(data) <= KEY_ID_BYTES:
        raise Malformed("a signature holds a keyID of 4 bytes and more")
    return Signature(name, data[:KEY_ID_BYTES], data[KEY_ID_BYTES:])
