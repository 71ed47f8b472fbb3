"""Site documents: what is accepted, what is refused and where, and which version held when."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ledger.core.document import split_origin
from ledger.core.duration import Duration
from ledger.core.encoding import encode_time
from ledger.core.errors import DocumentInvalid
from ledger.core.policy import (
    Cookie,
    PolicyHistory,
    Published,
    SiteDocument,
    decode_document,
    encode_document,
    parse_site_document,
)

SMALL = """
site: shop.example
controller: {name: Shop}
languages: [en]
origins: [https://shop.example]
policy: {version: 1.0, effectiveAt: 2026-05-11, url: "https://shop.example/cookies"}
renewAfter: P12M
purposes:
  analytics:
    title: {en: Analytics}
    description: {en: Counting}
"""


def small(**changes: Any) -> bytes:
    """The small document with members put at paths like `policy__version`; None takes one away."""
    whole = json.loads(encode_document(parse_site_document(SMALL.encode())))
    for path, value in changes.items():
        *way, last = path.split("__")
        part = whole
        for step in way:
            part = part.setdefault(step, {})
        if value is None:
            del part[last]
        else:
            part[last] = value
    return json.dumps(whole).encode()


def refusal(data: bytes | str) -> tuple[str, str]:
    with pytest.raises(DocumentInvalid) as caught:
        parse_site_document(data.encode() if isinstance(data, str) else data)
    return caught.value.path, caught.value.detail


def with_cookie(**cookie: Any) -> bytes:
    return small(purposes__analytics__cookies=[{"name": "ok", "duration": "session"}, cookie])


class TestEncoding:
    def test_a_document_comes_back_from_its_encoding_and_has_only_one(self) -> None:
        document = parse_site_document(SMALL.encode())
        data = encode_document(document)
        assert decode_document(data) == document
        assert encode_document(decode_document(data)) == data

    def test_members_at_their_default_are_left_out(self) -> None:
        spelled = small(
            announceChanges="posted",
            policy__material=True,
            purposes__analytics__required=False,
            purposes__analytics__inUse=True,
            purposes__analytics__cookies=[],
            regimes={},
            reaskAfter={},
        )
        assert encode_document(parse_site_document(spelled)) == encode_document(parse_site_document(SMALL.encode()))

    def test_it_is_canonical_json(self) -> None:
        assert encode_document(parse_site_document(SMALL.encode())) == (
            b'{"controller":{"name":"Shop"},"languages":["en"],"order":["analytics"],"origins":["https://shop.example"],'
            b'"policy":'
            b'{"effectiveAt":"2026-05-11T00:00:00.000Z","url":"https://shop.example/cookies","version":"1.0"},'
            b'"purposes":{"analytics":{"description":{"en":"Counting"},"title":{"en":"Analytics"}}},'
            b'"renewAfter":"P12M","site":"shop.example"}'
        )

    def test_purposes_come_back_in_the_order_in_which_they_were_written(self) -> None:
        written = parse_site_document((SMALL + "  age:\n    title: {en: Age}\n    description: {en: Age}\n").encode())
        assert tuple(written.purposes) == ("analytics", "age")
        assert tuple(decode_document(encode_document(written)).purposes) == ("analytics", "age")


class TestWhatYamlWouldGuess:
    @pytest.mark.parametrize("version", ["1.0", "1.10", "2", "0x1F", "1e3", "010", "2026-05-11", "NO", "true", "1.0.0"])
    def test_a_version_is_the_text_that_was_written(self, version: str) -> None:
        for written in (version, f'"{version}"'):
            assert parse_site_document(SMALL.replace("version: 1.0", f"version: {written}").encode()).version == version

    def test_norway_is_a_country(self) -> None:
        document = parse_site_document((SMALL + "regimes: {NO: opt-out}").encode())
        assert document.regimes == {"NO": "opt-out"}

    @pytest.mark.parametrize("empty", ["", "~", "null"])
    def test_a_key_without_a_value_is_an_error(self, empty: str) -> None:
        path, detail = refusal(SMALL.replace("renewAfter: P12M", f"renewAfter: {empty}"))
        assert path == "renewAfter"
        assert "has no value" in detail

    @pytest.mark.parametrize(
        ("written", "meant"),
        [
            ("2026-05-11", "2026-05-11T00:00:00.000Z"),
            ("2026-05-11T09:30:00+05:00", "2026-05-11T04:30:00.000Z"),
            ("2026-05-11T09:30:00.5Z", "2026-05-11T09:30:00.500Z"),
        ],
    )
    def test_a_date_begins_in_utc_and_a_time_has_an_offset(self, written: str, meant: str) -> None:
        assert parse_site_document(small(policy__effectiveAt=written)).policy.effective_at == meant

    def test_json_is_read_as_json(self) -> None:
        text = small(controller__name="\U0001f600 Shop").replace(b", ", b",\n\t")
        assert parse_site_document(text).controller.name == "\U0001f600 Shop"

    def test_a_byte_order_mark_is_forgiven(self) -> None:
        assert parse_site_document(b"\xef\xbb\xbf" + SMALL.encode()).site == "shop.example"


class TestErrorsNameThePlace:
    @pytest.mark.parametrize(
        ("changes", "path", "says"),
        [
            ({"site": None}, "site", "is missing"),
            ({"site": "localhost"}, "site", "with a dot"),
            ({"site": "Shop.example"}, "site", "lower case"),
            ({"site": "a" * 300 + ".example"}, "site", "host name"),
            ({"colour": "red"}, "colour", "known here"),
            ({"renewafter": "P1Y"}, "renewafter", "did you mean renewAfter?"),
            ({"policy__versoin": "1"}, "policy.versoin", "did you mean version?"),
            ({"policy__version": "1/0"}, "policy.version", "1 to 32"),
            ({"policy__version": ["1.0"]}, "policy.version", "has to be text"),
            ({"policy__url": "http://shop.example"}, "policy.url", "https://"),
            ({"policy__url": "https://"}, "policy.url", "https://"),
            ({"policy__effectiveAt": "11.05.2026"}, "policy.effectiveAt", "2026-05-11"),
            ({"policy__effectiveAt": "2026-02-30"}, "policy.effectiveAt", "calendar"),
            ({"policy__effectiveAt": "2026-05-11T09:00:00"}, "policy.effectiveAt", "offset"),
            ({"policy__material": "maybe"}, "policy.material", "true, false or a list"),
            ({"policy__material": ["marketing"]}, "policy.material[0]", "analytics"),
            ({"renewAfter": "12 months"}, "renewAfter", "P12M"),
            ({"renewAfter": "P0D"}, "renewAfter", "ISO 8601"),
            ({"renewAfter": "P101Y"}, "renewAfter", "ISO 8601"),
            ({"languages": []}, "languages", "1 to 32"),
            ({"languages": ["english!"]}, "languages[0]", "BCP 47"),
            ({"languages": ["en", "en"]}, "languages[1]", "twice"),
            ({"origins": ["shop.example"]}, "origins[0]", "https://example.com"),
            ({"origins": ["https://shop.example/"]}, "origins[0]", "without a path"),
            ({"origins": ["http://shop.example"]}, "origins[0]", "http only for localhost"),
            ({"origins": ["https://*.example"]}, "origins[0]", "top-level"),
            ({"origins": ["https://a*.shop.example"]}, "origins[0]", "https://*.example.com"),
            ({"origins": ["https://*"]}, "origins[0]", "https://*.example.com"),
            ({"origins": ["https://me@shop.example"]}, "origins[0]", "https://example.com"),
            ({"regimes": {"default": "ask"}}, "regimes.default", "opt-in, opt-out, exempt"),
            ({"regimes": {"Europe": "opt-in"}}, "regimes.Europe", "EU, EEA or UK"),
            ({"regimes": {"XX": "opt-in"}}, "regimes.XX", "ISO 3166"),
            ({"reaskAfter": {"refusal": "P6"}}, "reaskAfter.refusal", "ISO 8601"),
            ({"announceChanges": "sometimes"}, "announceChanges", "one of posted, first-visit, email"),
            ({"controller__bin": "12345"}, "controller.bin", "12 digits"),
            ({"controller__email": "nobody"}, "controller.email", "e-mail"),
            ({"controller__name": ""}, "controller.name", "1 to 300"),
            ({"controller__name": "a\u0000b"}, "controller.name", "printable"),
            ({"controller__name": "a\ud800b"}, "controller.name", "printable"),
            ({"controller": "Shop"}, "controller", "mapping"),
            ({"purposes": {}}, "purposes", "1 to 64"),
            ({"purposes__*": {}}, "purposes.*", "letters, digits"),
            ({"purposes__analytics__title": {"ru": "x"}}, "purposes.analytics.title.ru", "known here: en"),
            ({"purposes__analytics__title": {}}, "purposes.analytics.title.en", "missing"),
            ({"purposes__analytics__title": "Analytics"}, "purposes.analytics.title", "mapping"),
            ({"purposes__analytics__description": {"en": "x" * 3_000}}, "purposes.analytics.description.en", "2000"),
            ({"purposes__analytics__recipients": [{"name": "x", "region": "Mars"}]},
             "purposes.analytics.recipients[0].region", "ISO 3166"),
            ({"purposes__n": {"required": True, "renewAfter": "P1M", "title": {"en": "n"}, "description": {"en": "n"}}},
             "purposes.n.renewAfter", "never asked"),
        ],
        ids=lambda value: value if isinstance(value, str) and len(value) < 50 else "",
    )  # fmt: skip
    def test_a_wrong_member(self, changes: dict[str, Any], path: str, says: str) -> None:
        where, detail = refusal(small(**changes))
        assert where == path
        assert says in detail

    @pytest.mark.parametrize(
        ("cookie", "member", "says"),
        [
            ({"name": "a"}, "", "either a duration or a period of inactivity"),
            ({"name": "a", "duration": "P1D", "inactivity": "P2W"}, "", "either"),
            ({"name": "a", "pattern": "a*", "duration": "P1D"}, "", "not both"),
            ({"duration": "P1D"}, "", "name, a pattern"),
            ({"name": "a", "duration": "forever"}, ".duration", "session, persistent"),
            ({"name": "a", "duration": "P1D", "party": "ours"}, ".party", "first, third"),
            ({"name": "a", "duration": "P1D", "storage": "disk"}, ".storage", "localStorage"),
            ({"name": "a", "duration": "P1D", "description": {"en": ""}}, ".description.en", "1 to"),
            ({"name": "ok", "duration": "session"}, "", "twice"),
        ],
    )
    def test_a_wrong_cookie(self, cookie: dict[str, Any], member: str, says: str) -> None:
        where, detail = refusal(with_cookie(**cookie))
        assert where == f"purposes.analytics.cookies[1]{member}"
        assert says in detail

    def test_every_error_is_text_that_json_can_carry(self) -> None:
        for data in (
            small(**{"a\ud800": "x"}),
            small(site="a\ud800.b"),
            b'site: "\\uD800"',
            small(**{"a\u202eb": "x"}),
        ):
            path, detail = refusal(data)
            assert (path + detail).encode()

    @pytest.mark.parametrize(
        ("text", "path", "says"),
        [
            ("site: a.example\nsite: b.example", "site", "twice"),
            ('{"site": "a.example", "site": "b.example"}', "site", "twice"),
            ("controller: &c {name: x}\ncopy: *c", "controller", "anchors"),
            ("controller: *c", "controller", "aliases"),
            ("&a [*a]", "", "anchors"),
            ("site: !!python/object/apply:os.system [id]", "site", "tags"),
            ("!!map {site: x}", "", "tags"),
            ("site: x\n---\nsite: y", "", "more than one document"),
            ("site: [a", "", "line"),
            ('{"site": ', "", "not valid JSON"),
            ("", "", "empty"),
            ("# nothing", "", "empty"),
            ("[1, 2]", "", "mapping"),
            ("? [a]\n: b", "", "key"),
            ("'': x", "", "key"),
            ("a: \x00", "", "YAML does not allow"),
            ("<<: {site: x}", "<<", "no such key"),
        ],
    )
    def test_a_wrong_source(self, text: str, path: str, says: str) -> None:
        where, detail = refusal(text)
        assert where == path
        assert says in detail

    def test_other_encodings_are_told_to_become_utf_8(self) -> None:
        for data in (SMALL.encode("utf-16"), "site: сайт".encode("cp1251"), b"\xff"):
            assert "save it as UTF-8" in refusal(data)[1]


class TestTheDocument:
    def test_its_parts_are_read(self) -> None:
        cookie = parse_site_document(
            with_cookie(pattern="_ga_*", duration="P24M", party="third", conditional="true", storage="localStorage")
        ).purposes["analytics"].cookies[1]  # fmt: skip
        assert isinstance(cookie.duration, Duration)
        assert cookie == Cookie(
            pattern="_ga_*", duration=cookie.duration, party="third", conditional=True, storage="localStorage"
        )

    def test_a_purpose_s_own_regimes_and_renewal_go_over_the_site_s(self) -> None:
        document = parse_site_document(
            small(
                regimes={"EU": "opt-in", "default": "opt-out"},
                purposes__analytics__regimes={"EU": "exempt", "KZ": "opt-in"},
                purposes__analytics__renewAfter="P1M",
            )
        )
        assert document.regimes_of("analytics") == {"default": "opt-out", "EU": "exempt", "KZ": "opt-in"}
        assert document.renewal_of("analytics") == "P1M"
        assert document.renewal_of("other") == "P12M"

    def test_without_a_word_on_regimes_everything_is_opt_in(self) -> None:
        assert parse_site_document(SMALL.encode()).regimes_of("analytics") == {"default": "opt-in"}

    @pytest.mark.parametrize(
        ("origin", "allowed"),
        [
            ("https://shop.example", True),
            ("https://www.shop.example", True),
            ("https://a.b.shop.example", True),
            ("http://localhost:3000", True),
            ("http://localhost", False),
            ("http://shop.example", False),
            ("https://shop.example:8443", False),
            ("https://www.shop.example:8443", False),
            ("https://evilshop.example", False),
            ("https://shop.example.evil.test", False),
            ("https://.shop.example", False),
            ("https://x@www.shop.example", False),
            ("https://www.shop.example/", False),
            ("https://www.shop.example\\@evil.test", False),
            ("null", False),
            ("", False),
            ("https://[", False),
        ],
    )
    def test_the_origins_it_allows(self, origin: str, allowed: bool) -> None:
        origins = ["https://shop.example", "https://*.shop.example", "http://localhost:3000"]
        assert parse_site_document(small(origins=origins)).allows_origin(origin) is allowed

    def test_an_origin_has_scheme_host_and_port(self) -> None:
        assert split_origin("https://a.example:8443") == ("https", "a.example", 8443)
        assert split_origin("https://a.example/path") is None


def version(name: str, effective_ms: int = 0) -> SiteDocument:
    return parse_site_document(small(policy__version=name, policy__effectiveAt=encode_time(effective_ms)))


class TestHistory:
    def test_a_version_takes_effect_no_earlier_than_it_is_published(self) -> None:
        history = PolicyHistory(
            (Published(1, 1_000, b"", version("1", 0)), Published(2, 2_000, b"", version("2", 5_000)))
        )
        held = {at_ms: history.in_force(at_ms) for at_ms in (999, 1_000, 4_999, 5_000)}
        assert [None if entry is None else entry.document.version for entry in held.values()] == [None, "1", "1", "2"]

    def test_ties_go_to_the_later_seq_and_a_scheduled_version_overtakes_one_published_after_it(self) -> None:
        history = PolicyHistory(
            (
                Published(1, 1_000, b"", version("1")),
                Published(2, 1_000, b"", version("2")),
                Published(3, 1_000, b"", version("3", 9_000)),
                Published(4, 2_000, b"", version("4")),
            )
        )
        assert [entry.document.version for entry in history.in_effect_order] == ["1", "2", "4", "3"]
        for at_ms, expected in ((1_000, "2"), (2_000, "4"), (9_000, "3")):
            entry = history.in_force(at_ms)
            assert entry is not None
            assert entry.document.version == expected

    def test_knowledge_is_bounded_inclusively(self) -> None:
        history = PolicyHistory((Published(1, 0, b"", version("1")), Published(7, 0, b"", version("2"))))
        assert history.in_force(1, known_seq=0) is None
        assert history.get("2", known_seq=6) is None
        assert history.get("2", known_seq=7) is not None
        assert len(history.known(6)) == 1
        assert history.known(7) is history
        assert history.last_seq == 7
        assert PolicyHistory().last_seq == -1
        assert PolicyHistory().latest is None

    def test_entries_come_in_order(self) -> None:
        with pytest.raises(ValueError, match="ascending"):
            PolicyHistory((Published(2, 0, b"", version("1")), Published(1, 0, b"", version("2"))))
