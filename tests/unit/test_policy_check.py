"""`policy check`: faults with their line, a summary a person can read, and a result for programs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import ledger
from ledger.cli import main
from ledger.core.policy import encode_document, parse_site_document
from ledger.core.source import line_of
from tests.documents import FULL, SMALL, changed, encoded

YAML = """\
# A comment
site: shop.example
controller: {name: Shop}
languages: [en]
origins:
  - https://shop.example
policy: {version: 1.0, effectiveAt: 2026-05-11, url: "https://shop.example/cookies"}
renewAfter: P12M
purposes:
  analytics:
    title: {en: Analytics}
    description:
      en: Counting
    cookies:
      - name: a
        duration: P24M
"""


def check(text: str | bytes, *options: str) -> Result:
    return CliRunner().invoke(main, ["policy", "check", "-", *options], input=text)


class TestAFault:
    @pytest.mark.parametrize(
        ("old", "new", "line", "says"),
        [
            ("P24M", "2 years", 16, "purposes.analytics.cookies[0].duration: '2 years'"),
            ("      - name: a\n", "      - nam: a\n", 15, "did you mean name?"),
            ("      en: Counting", "      ru: Counting", 13, "purposes.analytics.description.ru"),
            ("renewAfter: P12M\n", "", None, "renewAfter: is missing"),
            ("    title: {en: Analytics}\n", "", 10, "purposes.analytics.title: is missing"),
            ("  - https://shop.example", "  - https://shop.example\n  - ftp://shop.example", 7, "origins[1]"),
            ("site: shop.example", "site: [", None, "not valid YAML"),
            ("en: Counting", "en: *x", 13, "aliases"),
        ],
    )
    def test_is_told_with_its_line_on_standard_error(self, old: str, new: str, line: int | None, says: str) -> None:
        result = check(YAML.replace(old, new, 1))
        assert result.exit_code == 1
        assert says in result.stderr
        assert ("line " + str(line) + ":" in result.stderr) if line else result.stderr.startswith("standard input: ")
        assert result.stdout == ""

    def test_is_told_to_programs_with_path_and_pointer(self) -> None:
        result = check(YAML.replace("P24M", "x"), "--json")
        assert result.exit_code == 1
        fault = json.loads(result.stdout)["fault"]
        assert (fault["path"], fault["pointer"], fault["line"]) == (
            "purposes.analytics.cookies[0].duration",
            "/purposes/analytics/cookies/0/duration",
            16,
        )

    def test_of_json_has_a_line_too(self) -> None:
        text = json.dumps(changed(SMALL, ("renewAfter", "soon")), indent=1)
        number = 1 + text[: text.index('"renewAfter"')].count("\n")
        assert f"line {number}: renewAfter" in check(text).stderr

    def test_without_a_place_has_no_line(self) -> None:
        assert line_of(YAML.encode(), ()) is None
        assert line_of(b"\xff", ("site",)) is None
        assert line_of(b"a: [", ("site",)) is None
        assert line_of(b"x" * 300_000, ("site",)) is None

    def test_in_a_file_too_large_is_found_without_reading_it_whole(self, tmp_path: Path) -> None:
        large = tmp_path / "large.yaml"
        with large.open("wb") as file:
            file.truncate(2**40)
        result = CliRunner().invoke(main, ["policy", "check", str(large)])
        assert result.exit_code == 1
        assert "256 KiB" in result.stderr

    def test_to_read_the_file_at_all_is_another_exit_code(self) -> None:
        assert CliRunner().invoke(main, ["policy", "check", "/nowhere/site.yaml"]).exit_code == 2


class TestASoundDocument:
    def test_is_summed_up_and_advice_goes_below(self) -> None:
        result = check(YAML)
        assert result.exit_code == 0
        assert "shop.example, version 1.0" in result.stdout
        assert "analytics (Analytics): opt-in; lasts P12M" in result.stdout
        assert "a, P24M" in result.stdout
        assert "purposes.analytics.cookies[0]: lives P24M, the consent P12M" in result.stdout
        assert check(YAML, "--strict").exit_code == 1
        assert check(YAML.replace("P24M", "P12M"), "--strict").exit_code == 0

    def test_is_told_to_programs_with_the_hash_under_which_it_will_be_published(self) -> None:
        from hashlib import sha256

        told = json.loads(check(YAML, "--json").stdout)
        assert told["document"] == sha256(encode_document(parse_site_document(YAML.encode()))).hexdigest()
        assert (told["valid"], told["site"], told["version"]) == (True, "shop.example", "1.0")
        assert [one["path"] for one in told["advice"]] == ["purposes.analytics.cookies[0]"]

    def test_of_every_kind_is_summed_up(self) -> None:
        out = check(encoded(FULL)).stdout
        for words in (
            "necessary (Necessary): required, never asked",
            "opt-in, UK exempt, US-CA opt-out; lasts P6M; goes on with analytics",
            "consent, UK exemption, US-CA legitimate interest",
            "IP address\n",
            "removed in version 2.0",
            "needs age; not in use",
            "attestation; opt-in",
            "cannot be withdrawn",
            "_ga*, P24M, third party, conditional",
            "Counter Inc., controller, US, contractual clauses",
        ):
            assert words in out

    @pytest.mark.parametrize(
        "path", sorted((Path(ledger.__file__).parent / "sites").glob("*.yaml")), ids=lambda p: p.stem
    )
    def test_of_an_example_site_is_summed_up(self, path: Path) -> None:
        result = CliRunner().invoke(main, ["policy", "check", str(path)])
        assert result.exit_code == 0
        assert path.stem in result.stdout


def test_the_schema_is_printed_for_editors_byte_for_byte() -> None:
    printed = CliRunner().invoke(main, ["policy", "schema"])
    assert printed.exit_code == 0
    assert printed.stdout == (Path(ledger.__file__).parent / "http" / "site-document.schema.json").read_text("utf-8")
