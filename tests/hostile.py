"""Site documents that somebody sends to hurt: each small to say, each to be refused at once."""

# ruff: noqa: PLW0108 - every document is made by a lambda, so that the table reads evenly

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple

from tests.documents import SMALL, changed, encoded

TEXT = encoded(SMALL).decode()
YAML = """\
site: shop.example
controller: {name: Shop}
languages: [en]
origins: [https://shop.example]
policy: {version: "1.0", effectiveAt: 2026-05-11, url: "https://shop.example/cookies"}
renewAfter: P12M
purposes:
  analytics: {title: {en: Analytics}, description: {en: Counting}}
"""
ANALYTICS = "purposes/analytics"


class Hostile(NamedTuple):
    """What is sent, made when it is needed, and what the refusal says."""

    name: str
    make: Callable[[], bytes]
    says: str


def _with(place: str, value: Any) -> Callable[[], bytes]:
    return lambda: encoded(changed(SMALL, (place, value)))


def _raw(place: str, literal: str) -> Callable[[], bytes]:
    """A JSON literal as it stands, which a JSON library would not write."""
    return lambda: encoded(changed(SMALL, (place, "@@"))).replace(b'"@@"', literal.encode())


def _yaml(old: str, new: str) -> Callable[[], bytes]:
    return lambda: YAML.replace(old, new).encode()


def _purposes(count: int) -> bytes:
    one = SMALL["purposes"]["analytics"]
    return encoded(changed(SMALL, ("purposes", {f"p{number}": one for number in range(count)})))


def _encoding(name: str) -> Callable[[], bytes]:
    return lambda: YAML.replace("Shop}", "Кафе}" if name == "cp1251" else "Café}").encode(name)


HOSTILE = (
    # Size and number
    Hostile("50 MB of letters", lambda: b"a" * 50_000_000, "256 KiB"),
    Hostile("50 MB of YAML", lambda: b"- a\n" * 12_500_000, "256 KiB"),
    Hostile("100,000 purposes", lambda: _purposes(100_000), "256 KiB"),
    Hostile("as many purposes as fit", lambda: _purposes(3_000), "1 to 64 purposes"),
    Hostile("100,000 keys", lambda: b"".join(b"%d: a\n" % n for n in range(20_001)), "20000 values"),
    Hostile("many values", lambda: b"- a\n" * 65_000, "20000 values"),
    Hostile("many cookies", _with(f"{ANALYTICS}/cookies", [{"name": f"{n}", "duration": "P1D"} for n in range(4_000)]),
            "200 items"),
    Hostile("many equal cookies", _with(f"{ANALYTICS}/cookies", [{"name": "a", "duration": "session"}] * 200), "twice"),
    Hostile("many languages", _with("languages", [f"a{chr(97 + n % 26)}-{n}" for n in range(5_000)]), "1 to 32 items"),
    Hostile("many regions", _with("regimes", {f"US-{n:03}": "opt-in" for n in range(1_001)}), "1000 regions"),
    Hostile("many notices", _with("notices", {f"n{n}": {} for n in range(501)}), "at most 500"),
    Hostile("a long key", lambda: b'{"' + b"k" * 250_000 + b'":1}', "1 to 128 characters"),
    Hostile("a long text", _with("controller/name", "x" * 250_000), "1 to 300"),
    Hostile("a long pattern", _with("site", "a-" * 100_000 + "."), "host name"),
    Hostile("many dots", _with("site", "a." * 149 + "!"), "host name"),
    Hostile("many at signs", _with("controller/email", "a@" * 149 + "."), "e-mail"),
    # Depth
    Hostile("flow depth", lambda: b"[" * 262_000, "deeper than 10"),
    Hostile("block depth", lambda: b"- " * 131_000, "deeper than 10"),
    Hostile("indentation", lambda: b"".join(b" " * n + b"a:\n" for n in range(700)), "deeper than 10"),
    Hostile("complex keys", lambda: b"? " * 131_000, "key has to be"),
    Hostile("JSON depth", lambda: b'{"a":' * 52_000, "deeper than 10"),
    Hostile("JSON depth of lists", lambda: b'{"a":' + b"[" * 250_000, "deeper than 10"),
    Hostile("JSON that ends well", lambda: b'{"a":' * 30 + b"1" + b"}" * 30, "deeper than 10"),
    Hostile("braces", lambda: b"{" * 262_000, "not valid JSON"),
    Hostile("quotes", lambda: b"'" * 262_001, "not valid YAML"),
    # Aliases, cycles, merge keys, tags, directives
    Hostile("billion laughs", lambda: b"a: &a [x,x]\n" + b"".join(b"b%d: &b%d [*a,*a]\n" % (n, n) for n in range(99)),
            "anchors"),
    Hostile("a cycle", lambda: b"&a [*a]", "anchors"),
    Hostile("a cycle of keys", lambda: b"site: &a {b: *a}", "anchors"),
    Hostile("an alias alone", _yaml("{name: Shop}", "*c"), "aliases"),
    Hostile("an alias as a key", _yaml("site: ", "*a : "), "aliases"),
    Hostile("a merge", _yaml("site: shop.example", "<<: {site: shop.example}"), "no such key"),
    Hostile("a merge of an alias", _yaml("site: shop.example", "<<: *base"), "aliases"),
    Hostile("a call", _yaml("shop.example\n", "!!python/object/apply:os.system [id]\n"), "tags"),
    Hostile("a module", _yaml("shop.example\n", "!!python/name:os.system\n"), "tags"),
    Hostile("bytes", _yaml("{name: Shop}", "{name: !!binary U2hvcA==}"), "tags"),
    Hostile("a set", _yaml("[en]", "!!set {en}"), "tags"),
    Hostile("a tag of its own", lambda: b"%TAG ! tag:evil.example,2026:\n---\n!x {site: a}", "tags"),
    Hostile("a version of YAML to come", lambda: b"%YAML 3.0\n---\nsite: a", "not valid YAML"),
    Hostile("two documents", lambda: (YAML + "---\n" + YAML).encode(), "more than one document"),
    # Doubled keys and words that YAML guesses
    Hostile("a doubled key", lambda: (YAML + "site: other.example\n").encode(), "twice"),
    Hostile("a doubled JSON key", lambda: b'{"site":"other.example",' + TEXT[1:].encode(), "twice"),
    Hostile("a doubled key in disguise", lambda: b'{"s\\u0069te":"other.example",' + TEXT[1:].encode(), "twice"),
    Hostile("a doubled purpose", _yaml("purposes:\n", "purposes:\n  analytics: {}\n"), "twice"),
    Hostile("a key that is a list", _yaml("site:", "[a]:"), "key has to be"),
    Hostile("a boolean for a name", _with("controller/name", True), "boolean"),
    # Numbers
    Hostile("a long number", _raw("site", "9" * 250_000), "host name"),
    Hostile("a large exponent", _raw("renewAfter", "1e999999999"), "ISO 8601"),
    Hostile("infinity", _raw("renewAfter", "Infinity"), "ISO 8601"),
    Hostile("not a number", _raw("renewAfter", "NaN"), "ISO 8601"),
    Hostile("a period beyond all calendars", _with("renewAfter", "P" + "9" * 100_000 + "Y"), "ISO 8601"),
    Hostile("a period of seconds beyond them", _with("renewAfter", "PT9999999999S"), "ISO 8601"),
    Hostile("an age with an exponent", _raw(ANALYTICS, '{"title":{"en":"a"},"description":{"en":"a"},'
            '"kind":"attestation","minimumAge":{"KZ":1e1}}'), "1 to 99"),
    Hostile("a year beyond all calendars", _with("policy/effectiveAt", "99999-01-01"), "2026-05-11"),
    Hostile("digits of another script", _with("controller/bin", "١٢٣٤٥٦٧٨٩٠١٢"), "12 digits"),
    # Encodings
    Hostile("UTF-16 with its mark", _encoding("utf-16"), "save it as UTF-8"),
    Hostile("UTF-16 without", _encoding("utf-16-le"), "save it as UTF-8"),
    Hostile("UTF-16 of ASCII alone", lambda: YAML.encode("utf-16-be"), "YAML does not allow"),
    Hostile("UTF-32", _encoding("utf-32"), "save it as UTF-8"),
    Hostile("Latin-1", _encoding("latin-1"), "save it as UTF-8"),
    Hostile("Windows Cyrillic", _encoding("cp1251"), "save it as UTF-8"),
    Hostile("a surrogate in bytes", lambda: YAML.encode().replace(b"Shop", b"\xed\xa0\x80"), "save it as UTF-8"),
    Hostile("an overlong slash", lambda: YAML.encode().replace(b"Shop", b"\xc0\xaf"), "save it as UTF-8"),
    Hostile("a surrogate escaped in JSON", _raw("controller/name", '"\\ud800"'), "printable"),
    Hostile("a surrogate escaped in YAML", _yaml("{name: Shop}", '{name: "\\uD800"}'), ""),
    Hostile("a surrogate in a key", lambda: b'{"a\\ud800":1}', "printable text"),
    Hostile("a zero byte", _yaml("Shop", "Sh\x00op"), "YAML does not allow"),
    Hostile("a zero byte escaped", _raw("controller/name", '"a\\u0000b"'), "printable"),
    Hostile("a zero byte in JSON", lambda: encoded(SMALL).replace(b"Shop", b"Sh\x00op"), "not valid JSON"),
    Hostile("text that turns round", lambda: '{"a\u202eb":1}'.encode(), "printable text"),
    Hostile("a line separator", _with("controller/name", "a\u2028b"), "one line"),
    Hostile("an escape of the terminal", _raw("controller/name", '"\\u001b[2J"'), "printable"),
    # Nothing
    Hostile("nothing", lambda: b"", "empty"),
    Hostile("white space", lambda: b" \n\t\n" * 1_000, ""),
    Hostile("a list", lambda: b"[1, 2]", "mapping"),
    Hostile("a word", lambda: b"hello", "mapping"),
    Hostile("an empty mapping", lambda: b"{}", "missing"),
    Hostile("null", lambda: json.dumps({"site": None}).encode(), "no value"),
)  # fmt: skip
