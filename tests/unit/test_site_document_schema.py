"""The JSON Schema of site documents agrees with the reader, member by member, and says where it sees less."""

from __future__ import annotations

import json
import re
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator, FormatChecker

import ledger
from ledger.core import document, document_reader, notice, purpose_reader, reading, source
from ledger.core.event import MAX_PURPOSES
from ledger.core.policy import encode_document, parse_site_document
from ledger.core.regions import COUNTRIES, GROUPS
from ledger.policies.authoring import read_authored
from tests.documents import ABSENT, FULL, MALFORMED, SMALL, Malformed, changed, encoded

PACKAGE = Path(ledger.__file__).parent
TEXT = (PACKAGE.parent / "proto" / "site-document.schema.json").read_text("utf-8")
SCHEMA: dict[str, Any] = json.loads(TEXT)
VALIDATOR = Draft202012Validator(SCHEMA, format_checker=FormatChecker())
SITES = sorted((PACKAGE / "sites").glob("*.yaml"))

NODES: dict[type[msgspec.Struct], dict[str, Any]] = {
    document.SiteDocument: SCHEMA,
    document.Controller: SCHEMA["$defs"]["controller"],
    document.Contact: SCHEMA["$defs"]["contact"],
    document.Authority: SCHEMA["$defs"]["authority"],
    document.PolicyVersion: SCHEMA["$defs"]["policy"],
    document.Cookie: SCHEMA["$defs"]["cookie"],
    document.Recipient: SCHEMA["$defs"]["recipient"],
    document.DataCategory: SCHEMA["$defs"]["dataCategory"],
    document.ReaskAfter: SCHEMA["$defs"]["reaskAfter"],
    document.Purpose: SCHEMA["$defs"]["purpose"],
    document.Notice: SCHEMA["$defs"]["notice"],
}
MEMBERS = [(struct, field) for struct in NODES for field in msgspec.structs.fields(struct)]
MEMBER_IDS = [f"{struct.__name__}.{field.encode_name}" for struct, field in MEMBERS]
AUTHORS_ONLY = {document.SiteDocument: {document_reader.SCHEMA}, document.Notice: {"file"}}
"""What an author may write and nobody publishes: the reader drops the one, publishing replaces the other."""
# Without `order` the reader takes the order of writing, which is no fixed value.
WITHOUT_A_FIXED_DEFAULT = {"SiteDocument.order"}

ONLY_THE_READER_SEES: tuple[Malformed, ...] = tuple(case for case in MALFORMED if case.crossing)
"""Refused by the reader alone, for it takes a look at two places at once: see what each says."""
BEYOND_A_SCHEMA = (
    (("policy/effectiveAt", "2026-02-30"), "a day that the calendar has not"),
    (("origins", ["https://shop.example:70000"]), "a port that does not exist"),
    (("regimes", {"XX-CA": "opt-in"}), "a part of a country that does not exist"),
    (("renewAfter", "P101Y"), "a period of more than 100 years"),
)


class _Core(yaml.SafeLoader):
    """YAML 1.2's core schema, as editors read it: `NO` and dates are text, true and 16 are not."""


_Core.yaml_implicit_resolvers = {}
_Core.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile("^(true|false)$"), list("tf"))
_Core.add_implicit_resolver("tag:yaml.org,2002:int", re.compile("^[0-9]+$"), list("0123456789"))
_Core.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(r"^[0-9]+\.[0-9]+$"), list("0123456789"))


def faults(value: Any) -> list[str]:
    return [error.message for error in VALIDATOR.iter_errors(value)]


def resolved(node: Any) -> dict[str, Any]:
    """The node with what its `$ref` leads to; its own keywords go over that."""
    while isinstance(node, dict) and "$ref" in node:
        name = node["$ref"].removeprefix("#/$defs/")
        node = {**SCHEMA["$defs"][name], **{key: value for key, value in node.items() if key != "$ref"}}
    assert isinstance(node, dict)
    return node


class TestTheSchema:
    def test_is_one(self) -> None:
        Draft202012Validator.check_schema(SCHEMA)

    def test_is_packaged_byte_for_byte(self) -> None:
        assert (PACKAGE / "http" / "site-document.schema.json").read_text("utf-8") == TEXT

    def test_explains_every_member_to_whoever_writes_one(self) -> None:
        for struct, node in NODES.items():
            for name, member in node["properties"].items():
                told = resolved(member)
                assert told.get("title"), f"{struct.__name__}.{name}"
                assert len(told.get("description", "")) > 5, f"{struct.__name__}.{name}"
            assert node["title"]
            assert node["description"]

    def test_gives_examples_that_it_takes_itself(self) -> None:
        given = list(_examples(SCHEMA))
        assert len(given) > 40
        for node, example in given:
            scoped = Draft202012Validator({**node, "$defs": SCHEMA["$defs"]})
            assert [error.message for error in scoped.iter_errors(example)] == [], example


def _examples(node: Any) -> Iterator[tuple[dict[str, Any], Any]]:
    if isinstance(node, dict):
        for example in node.get("examples", ()) if isinstance(node.get("examples"), list) else ():
            yield node, example
        for inner in node.values():
            yield from _examples(inner)
    elif isinstance(node, list):
        for inner in node:
            yield from _examples(inner)


class TestTheModel:
    @pytest.mark.parametrize("struct", NODES, ids=lambda struct: struct.__name__)
    def test_has_the_same_members(self, struct: type[msgspec.Struct]) -> None:
        node = NODES[struct]
        assert set(node["properties"]) - AUTHORS_ONLY.get(struct, set()) == set(struct.__struct_encode_fields__)
        assert node["additionalProperties"] is False
        needed = {field.encode_name for field in msgspec.structs.fields(struct) if field.required}
        assert set(node.get("required", node.get("oneOf", [{}])[0].get("required", ()))) - {"duration"} == needed

    def test_has_no_part_that_the_schema_leaves_out(self) -> None:
        parts = {
            part for part in vars(document).values() if isinstance(part, type) and issubclass(part, document._Part)
        }
        assert parts - {document._Part} == set(NODES)

    @pytest.mark.parametrize(("struct", "field"), MEMBERS, ids=MEMBER_IDS)
    def test_has_the_same_defaults(self, struct: type[msgspec.Struct], field: msgspec.structs.FieldInfo) -> None:
        default = (
            field.default_factory() if field.default is msgspec.NODEFAULT and not field.required else field.default
        )
        told = resolved(NODES[struct]["properties"][field.encode_name])
        if default in (msgspec.NODEFAULT, None) or f"{struct.__name__}.{field.encode_name}" in WITHOUT_A_FIXED_DEFAULT:
            assert "default" not in told
        else:
            assert told["default"] == json.loads(msgspec.json.encode(default))

    @pytest.mark.parametrize(("struct", "field"), MEMBERS, ids=MEMBER_IDS)
    def test_has_the_same_words(self, struct: type[msgspec.Struct], field: msgspec.structs.FieldInfo) -> None:
        words = set(_literals(typing.get_type_hints(struct)[field.name]))
        if words:
            assert set(_enums(NODES[struct]["properties"][field.encode_name])) == words

    def test_has_the_same_regions_notices_and_bounds(self) -> None:
        kinds = SCHEMA["$defs"]
        assert set(kinds["country"]["enum"]) == COUNTRIES
        assert set(kinds["region"]["anyOf"][0]["enum"]) == set(GROUPS)
        assert tuple(kinds["notice"]["properties"]["mediaType"]["enum"]) == notice.MEDIA_TYPES
        top, purpose = SCHEMA["properties"], kinds["purpose"]["properties"]
        assert (kinds["line"]["maxLength"], kinds["lines"]["maxItems"]) == (
            reading.MAX_LINE_CHARS,
            reading.MAX_LIST_ITEMS,
        )
        assert kinds["texts"]["additionalProperties"]["maxLength"] == reading.MAX_TEXT_CHARS
        assert top["languages"]["maxItems"] == kinds["texts"]["maxProperties"] == reading.MAX_LANGUAGES
        assert top["origins"]["maxItems"] == document_reader.MAX_ORIGINS
        assert top["notices"]["maxProperties"] == document_reader.MAX_NOTICES
        assert top["site"]["maxLength"] == document_reader.MAX_SITE_CHARS
        assert top["purposes"]["maxProperties"] == top["order"]["maxItems"] == MAX_PURPOSES
        assert purpose["cookies"]["maxItems"] == purpose_reader.MAX_COOKIES
        assert purpose["recipients"]["maxItems"] == purpose["data"]["maxProperties"] == reading.MAX_LIST_ITEMS


def _literals(hint: Any) -> Iterator[str]:
    """The words that a type allows, not looking into other parts of the document."""
    if typing.get_origin(hint) is typing.Literal:
        yield from typing.get_args(hint)
    elif typing.get_origin(hint) in (typing.Union, types.UnionType, dict, tuple):
        for inner in typing.get_args(hint):
            yield from _literals(inner)


def _enums(node: Any) -> Iterator[str]:
    node = resolved(node)
    if "properties" not in node:
        yield from node.get("enum", ())
        for inner in (*node.get("anyOf", ()), *(node[key] for key in ("items", "additionalProperties") if key in node)):
            yield from _enums(inner)


class TestSoundDocuments:
    @pytest.mark.parametrize("site", SITES, ids=lambda path: path.stem)
    def test_of_the_examples_are_taken_as_written_and_as_published(self, site: Path) -> None:
        data = site.read_bytes()
        assert faults(yaml.load(data, Loader=_Core)) == []
        assert faults(json.loads(encode_document(parse_site_document(data)))) == []

    @pytest.mark.parametrize("site", SITES, ids=lambda path: path.stem)
    def test_of_the_examples_lead_editors_to_the_schema(self, site: Path) -> None:
        found = re.search(r"^# yaml-language-server: \$schema=(\S+)$", site.read_text("utf-8"), re.MULTILINE)
        assert found is not None
        assert (site.parent / found[1]).read_text("utf-8") == TEXT

    @pytest.mark.parametrize("base", [SMALL, FULL], ids=["small", "full"])
    def test_of_the_tests_are_taken(self, base: dict[str, Any]) -> None:
        assert faults(base) == []
        assert faults(json.loads(encode_document(parse_site_document(encoded(base))))) == []

    @pytest.mark.parametrize(
        "changes",
        [
            ("purposes/analytics/legalBasis", "consent"),
            ("purposes/analytics/cookies", [{"description": {"en": "x"}, "duration": "PT1H30M"}]),
            ("purposes/analytics/needs", []),
            ("policy/material", []),
            ("policy/material", False),
            ("policy/effectiveAt", "2026-05-11T09:30:00+05:00"),
            ("origins", ["http://localhost:8080", "http://127.0.0.1", "https://*.a.b.example:8443"]),
            ("regimes", {"NO": "opt-out", "US-CA": "opt-in", "default": "exempt"}),
            ("renewAfter", "P1Y2M3W4DT5H6M7S"),
            ("controller/name", "«Магазин» \U0001f600"),
        ],
        ids=str,
    )
    def test_of_other_kinds_are_taken_by_both(self, changes: tuple[str, Any]) -> None:
        candidate = changed(SMALL, changes)
        parse_site_document(encoded(candidate))
        assert faults(candidate) == []

    def test_may_name_files_until_they_are_published(self, tmp_path: Path) -> None:
        (tmp_path / "terms.txt").write_text("Terms")
        candidate = changed(
            FULL,
            ("notices/banner", {"file": "terms.txt", "language": "en"}),
            ("purposes/terms/document", {"file": "terms.txt"}),
        )
        with pytest.raises(document_reader.DocumentInvalid):
            parse_site_document(encoded(candidate))
        assert faults(candidate) == []
        found = parse_site_document(read_authored(encoded(candidate), tmp_path).source)
        published = json.loads(encode_document(found))
        assert published["notices"]["banner"]["mediaType"] == "text/plain"
        assert faults(published) == []
        for broken in (
            {"file": "a", "document": "ab" * 32, "mediaType": "text/plain"},
            {"file": ""},
            {"language": "en"},
        ):
            assert faults(changed(FULL, ("notices/banner", broken))) != []


class TestMalformedDocuments:
    @pytest.mark.parametrize(
        "malformed",
        [m for m in MALFORMED if not m.crossing],
        ids=[m.path + m.says for m in MALFORMED if not m.crossing],
    )
    def test_are_refused_by_the_schema_as_by_the_reader(self, malformed: Malformed) -> None:
        assert faults(changed(FULL, *malformed.changes)) != []

    @pytest.mark.parametrize("malformed", ONLY_THE_READER_SEES, ids=[m.path + m.says for m in ONLY_THE_READER_SEES])
    def test_that_contradict_themselves_are_the_reader_s_to_refuse(self, malformed: Malformed) -> None:
        assert faults(changed(FULL, *malformed.changes)) == [], (
            "the schema sees it: then it is no longer the reader's alone"
        )

    @pytest.mark.parametrize(("changes", "what"), BEYOND_A_SCHEMA, ids=[what for _, what in BEYOND_A_SCHEMA])
    def test_that_no_pattern_can_tell_are_the_reader_s_to_refuse(self, changes: tuple[str, Any], what: str) -> None:
        candidate = changed(SMALL, changes)
        assert faults(candidate) == []
        with pytest.raises(document_reader.DocumentInvalid):
            parse_site_document(encoded(candidate))

    @pytest.mark.parametrize(
        "changes",
        [
            ("site", "localhost"),
            ("site", ABSENT),
            ("colour", "red"),
            ("languages", ["english!"]),
            ("languages", ["en", "en"]),
            ("origins", ["https://*.example"]),
            ("origins", ["http://shop.example"]),
            ("origins", ["https://shop.example/"]),
            ("origins", ["https://me@shop.example"]),
            ("policy/url", "http://shop.example"),
            ("policy/url", "https://"),
            ("policy/version", "1/0"),
            ("policy/effectiveAt", "11.05.2026"),
            ("policy/effectiveAt", "2026-05-11T09:00:00"),
            ("renewAfter", "P0D"),
            ("renewAfter", "P1DT"),
            ("renewAfter", "12 months"),
            ("regimes", {"default": "ask"}),
            ("regimes", {"Europe": "opt-in"}),
            ("controller/bin", "12345"),
            ("controller/email", "nobody"),
            ("controller/name", " "),
            ("controller/name", "a\nb"),
            ("purposes", {}),
            ("purposes/*", SMALL["purposes"]["analytics"]),
            ("purposes/analytics/title", {}),
            ("purposes/analytics/description/en", "x" * 2_001),
            ("purposes/analytics/cookies", [{"name": "a"}]),
            ("purposes/analytics/cookies", [{"name": "a", "duration": "P1D", "inactivity": "P1D"}]),
            ("purposes/analytics/cookies", [{"name": "a", "pattern": "a*", "duration": "P1D"}]),
            ("purposes/analytics/cookies", [{"duration": "P1D"}]),
            ("purposes/analytics/cookies", [{"name": "a", "duration": "forever"}]),
        ],
        ids=lambda changes: f"{changes[0]} {str(changes[1])[:30]}",
    )
    def test_of_the_older_members_are_refused_by_both(self, changes: tuple[str, Any]) -> None:
        candidate = changed(SMALL, changes)
        with pytest.raises(document_reader.DocumentInvalid):
            parse_site_document(encoded(candidate))
        assert faults(candidate) != []


def places(value: Any, path: str = "") -> Iterator[str]:
    """Every place in a document, as `changed` takes it."""
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in members:
        place = f"{path}/{key}" if path else f"{key}"
        yield place
        yield from places(inner, place)


PLACES = tuple(places(FULL))
VALUES = (
    ABSENT, "", " x ", "x", "en", "EU", "KZ", "US-CA", "default", "P1D", "PT0S", "session", "consent", "opt-out", "2.0",
    "https://a.example", "2026-01-01", "ab" * 32, "dpv:X", "true", "16", "analytics", "age", True, False, 0, 16, [],
    ["age"], ["KZ"], ["P1D"], {}, {"EU": "P1D"}, {"default": "consent"}, {"en": "a", "ru": "b", "kk": "c"}, {"x": {}},
)  # fmt: skip


@settings(max_examples=1_500, deadline=None, derandomize=True, database=None)
@given(st.lists(st.tuples(st.sampled_from(PLACES), st.sampled_from(VALUES)), min_size=1, max_size=2))
def test_whatever_the_reader_takes_is_published_as_the_schema_says_and_reads_the_same(changes: list[Any]) -> None:
    try:
        candidate = encoded(changed(FULL, *changes))
    except (AttributeError, KeyError, TypeError, ValueError, IndexError):
        return  # the second change is to what the first took away
    try:
        found = parse_site_document(candidate)
    except document_reader.DocumentInvalid:
        return
    published = encode_document(found)
    assert faults(json.loads(published)) == []
    assert parse_site_document(published) == found


def test_a_document_in_the_schema_s_bounds_may_still_be_too_large() -> None:
    assert source.MAX_DOCUMENT_BYTES < 32 * 64 * 2_000
