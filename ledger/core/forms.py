"""The forms that texts from outside have, and how a person is told of one that has not its form.

Each form stands here once, with its pattern and the words for it: `said` turns msgspec's complaint about a pattern into
a sentence. Which member has which form is said by the types that use them.
"""

from __future__ import annotations

import re
import unicodedata
from typing import NamedTuple

from msgspec import Meta


class Form(NamedTuple):
    """`expected` ends a sentence that begins with the member's name and "is", and holds an example."""

    pattern: str
    expected: str

    @property
    def meta(self) -> Meta:
        """For `Annotated[str, …]`."""
        return Meta(pattern=self.pattern)

    def fits(self, text: str) -> bool:
        return re.match(self.pattern, text) is not None


_DATE = r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?"
_TIME = "a time like 2026-11-21T03:00:00Z (RFC 3339)"

# `\Z`, not `$`: Python's `$` would let a trailing newline through.
PURPOSE = Form(
    r"^(\*|[A-Za-z0-9][A-Za-z0-9_.:-]{0,63})\Z",
    "a purpose's id, of 1 to 64 letters, digits, _ . : -, like analytics",
)
VISITOR = Form(
    r"^[A-Za-z0-9_-]{22,64}\Z", "a visitor's id, of 22 to 64 letters, digits, - or _, like 7mQ2vXc0LkT9-aRw_5ZyBg"
)
ACCOUNT = Form(r"^[!-~]{1,128}\Z", "an account's name, of 1 to 128 ASCII characters without spaces, like customer-4711")
UUID = Form(
    r"^[0-9a-f]{8}-[0-9a-f]{4}-[1-8][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}\Z",
    "a UUID in lower case, like 01926e7c-8c00-7000-8000-000000000001",
)
LANGUAGE = Form(r"^[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8}){0,7}\Z", "a tag of BCP 47, like en or kk")
REGION = Form(r"^[A-Z]{2}(-[A-Z0-9]{1,3})?\Z", "an ISO 3166 code, like KZ or US-CA")
VERSION = Form(r"^[0-9A-Za-z.-]{1,32}\Z", "a version, of 1 to 32 letters, digits, dots or hyphens, like 1.0")
HASH = Form(r"^[0-9a-f]{64}\Z", "a SHA-256, 64 hex digits in lower case as `sha256sum` prints them")
SIGNAL = Form(r"^[A-Za-z0-9_.~+/=-]{1,4096}\Z", "an IAB string, of 1 to 4096 letters, digits and _ . ~ + / = -")
ANY_TIME = Form(rf"^{_DATE}([Zz]|[+-][0-9]{{2}}:[0-9]{{2}})\Z", _TIME)
CLOCK_TIME = Form(
    r"^[+-]?[0-9]{4,6}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?([Zz]|[+-][0-9]{2}:[0-9]{2})?\Z",
    _TIME,
)
REFERENCE = Form(
    r"^[A-Za-z0-9][A-Za-z0-9._:/#-]{0,63}\Z",
    "a reference, of 1 to 64 letters, digits and . _ : / # -, like DSR-2026/117",
)
CONSUMER = Form(r"^[A-Za-z0-9_.:-]{1,64}\Z", "a consumer's name, of 1 to 64 letters, digits and _ . : -, like crm")
REVIEWER = Form(
    r"^[^\x00-\x20\x7f@][^\x00-\x1f\x7f@]{0,63}\Z",
    "a role, of 1 to 64 printable characters and no address of mail, like data protection officer",
)
ACTOR = Form(r"^[^\x00-\x1f\x7f]{1,128}\Z", "a name of 1 to 128 printable characters, like anna")
INSTRUCTION = Form(r"^[^\x00-\x1f\x7f]{1,512}\Z", "a text of 1 to 512 printable characters, like DSR-2026/117")
KEY = Form(r"^[A-Za-z0-9+/]{43}=\Z", "an Ed25519 public key in base64: 43 characters and =")
SIGNATURE = Form(r"^[A-Za-z0-9+/]{86}==\Z", "an Ed25519 signature in base64: 86 characters and ==")
NONCE = Form(r"^[A-Za-z0-9_-]{75,128}\Z", "the nonce of a challenge, exactly as it came")

_EXPECTED = {
    repr(form.pattern): form.expected
    for form in (
        *(PURPOSE, VISITOR, ACCOUNT, UUID, LANGUAGE, REGION, VERSION, HASH, SIGNAL, ANY_TIME, CLOCK_TIME, REFERENCE),
        *(CONSUMER, REVIEWER, ACTOR, INSTRUCTION, KEY, SIGNATURE, NONCE),
    )
}
_MISFIT = re.compile(r"Expected `str` matching regex (?P<pattern>.*)", re.DOTALL)


_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def is_plain(text: str) -> bool:
    """Whether nothing in it steers a terminal, hides, or turns around what stands beside it: no control or format
    character and no separator of lines (Unicode's general categories)."""
    return not any(unicodedata.category(character) in _HIDDEN for character in text)


def said(complaint: str, name: str) -> str:
    """What msgspec says of a value (without its place) as a sentence about `name`, without its full stop."""
    misfit = _MISFIT.fullmatch(complaint)
    if misfit is None or (expected := _EXPECTED.get(misfit["pattern"])) is None:
        return complaint
    return f"{name} is {expected}"
