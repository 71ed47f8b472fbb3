"""`consent-ledger policy`: documents with their files published, listed, shown, compared, for people and programs."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import yaml
from msgspec.structs import replace

import ledger
from ledger.config import Settings
from ledger.core.policy import parse_site_document
from ledger.policies.command import compare
from tests.e2e.test_notices import NOTICE, PICTURE, TERMS
from tests.fault.keys import command
from tests.harness import document, found, new_site_name


@pytest_asyncio.fixture
async def site(settings: Settings) -> str:
    return (await found(settings, new_site_name())).site


def write(folder: Path, site: str, version: str, **members: Any) -> str:
    """The small document as a file, with other members; its path."""
    source = yaml.safe_load(document(site, version).replace(b"version: ", b"version: !!str "))
    purposes = members.pop("purposes", {})
    path = folder / f"{version}.yaml"
    source |= members
    source["purposes"] |= purposes
    source["policy"] |= {"version": version, "effectiveAt": "2026-01-01", "material": False}
    path.write_text(yaml.safe_dump(source, sort_keys=False), encoding="utf-8")
    return str(path)


def put(folder: Path, name: str, body: bytes) -> dict[str, str]:
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(body)
    return {"file": name}


async def test_a_document_is_published_with_the_files_beside_it(settings: Settings, site: str, tmp_path: Path) -> None:
    put(tmp_path, "notices/shot.png", PICTURE)
    shot = {"file": "notices/shot.png", "language": "en"}
    banner = put(tmp_path, "notices/banner.json", json.dumps({**NOTICE, "screenshots": [shot]}).encode())
    terms = put(tmp_path, "terms.txt", TERMS)
    purpose = {"title": {"en": "Terms"}, "description": {"en": "Of use"}, "kind": "acceptance", "document": terms}
    path = write(tmp_path, site, "1.1", notices={"banner": banner}, purposes={"terms": purpose})
    assert (await command(settings, "policy", "check", path)).exit_code == 0
    done = await command(settings, "policy", "publish", path)
    assert done.exit_code == 0, done.output
    assert "version 1.1 is published, as entry 2" in done.output
    assert "! a new purpose: terms" in done.output
    assert "visitors are asked again for terms: a new purpose: terms" in done.output
    again = await command(settings, "policy", "publish", path, "--json")
    assert (again.exit_code, json.loads(again.output)["seq"]) == (0, 2)
    assert "was published before" in (await command(settings, "policy", "publish", path)).output
    stored = json.loads((await command(settings, "policy", "show", site, "--json")).output)
    assert stored["purposes"]["terms"]["document"] == sha256(TERMS).hexdigest()
    assert stored["notices"]["banner"]["mediaType"] == "application/json"


async def test_a_file_that_cannot_be_used_is_told_by_its_place(settings: Settings, site: str, tmp_path: Path) -> None:
    for name, body, words in (
        ("gone.json", None, "notices.banner.file: the file gone.json cannot be read: No such file or directory"),
        ("bad.json", b"{}", "bad.json: format: is missing"),
        ("page.html", b"\xfe", "page.html: it is neither a PNG, JPEG or WebP image nor text in UTF-8"),
    ):
        if body is not None:
            put(tmp_path, name, body)
        path = write(tmp_path, site, "1.1", notices={"banner": {"file": name}})
        done = await command(settings, "policy", "publish", path)
        assert done.exit_code == 2, done.output
        assert words in done.output
    piped = await command(settings, "policy", "publish", "-", answer=Path(path).read_text("utf-8"))
    assert (piped.exit_code, "standard input has no files" in piped.output) == (2, True)


async def test_a_notice_s_file_may_be_named_where_its_hash_would_stand(
    settings: Settings, site: str, tmp_path: Path
) -> None:
    banner = {"document": put(tmp_path, "banner.json", json.dumps(NOTICE).encode())}
    path = write(tmp_path, site, "1.1", notices={"banner": banner})
    assert (await command(settings, "policy", "check", path)).exit_code == 0
    assert (await command(settings, "policy", "publish", path)).exit_code == 0
    stored = json.loads((await command(settings, "policy", "show", site, "--json")).output)
    assert stored["notices"]["banner"]["mediaType"] == "application/json"


async def test_a_notice_that_will_not_be_published_is_found_before_and_founds_no_site(
    settings: Settings, site: str, tmp_path: Path
) -> None:
    banner = put(tmp_path, "banner.json", json.dumps({**NOTICE, "defaults": {"unheard-of": "denied"}}).encode())
    name = new_site_name()
    path = write(tmp_path, name, "1.0", notices={"banner": banner})
    words = "notices.banner: the notice does not fit: defaults.unheard-of: the site document has no such purpose"
    checked = await command(settings, "policy", "check", path)
    assert (checked.exit_code, words in checked.output) == (1, True)
    added = await command(settings, "site", "add", path)
    assert (added.exit_code, words in added.output) == (2, True), added.output
    assert name not in (await command(settings, "site", "list")).output


async def test_versions_are_listed_and_shown_as_they_are_and_will_be(
    settings: Settings, site: str, tmp_path: Path
) -> None:
    later = write(tmp_path, site, "2.0")
    Path(later).write_text(Path(later).read_text("utf-8").replace("2026-01-01", "2199-01-01"), encoding="utf-8")
    assert (await command(settings, "policy", "publish", later)).exit_code == 0
    listed = await command(settings, "policy", "list", site)
    first, second = listed.output.splitlines()
    assert first.startswith("2.0  from 2199-01-01T00:00:00.000Z  entry      2")
    assert (first.endswith("in force"), second.endswith("in force")) == (False, True)
    told = json.loads((await command(settings, "policy", "list", site, "--json")).output)
    assert [(each["version"], each["inForce"]) for each in told["policies"]] == [("2.0", False), ("1.0", True)]
    shown = await command(settings, "policy", "show", site)
    assert f"{site}, version 1.0" in shown.output
    for asked in (("2.0",), ("--at", "2199-01-01T00:00:00Z")):
        shown = await command(settings, "policy", "show", site, *asked)
        assert f"{site}, version 2.0" in shown.output
        assert "it holds from 2199-01-01T00:00:00.000Z on" in shown.output
    for asked, code in ((("never",), 2), (("2.0", "--at", "2199-01-01T00:00:00Z"), 2), (("--at", "soon"), 2)):
        assert (await command(settings, "policy", "show", site, *asked)).exit_code == code


async def test_versions_and_files_are_compared_with_each_other(settings: Settings, site: str, tmp_path: Path) -> None:
    recipient = {"title": {"en": "Analytics"}, "description": {"en": "Counting"}, "recipients": [{"name": "PostHog"}]}
    wider = write(tmp_path, site, "1.1", purposes={"analytics": recipient})
    newest = write(tmp_path, site, "1.2", purposes={"analytics": recipient}, laws=["A law"])
    line = "! a new recipient: PostHog"
    for arguments in ((wider,), ("1.0", wider)):
        done = await command(settings, "policy", "diff", *arguments)
        assert done.exit_code == 0, done.output
        assert line in done.output
        assert "visitors are asked again for analytics" in done.output
    assert (await command(settings, "policy", "publish", wider)).exit_code == 0
    between = await command(settings, "policy", "diff", wider, newest)
    assert (line in between.output, "a new law that is named: A law" in between.output) == (False, True)
    assert "nobody is asked again" in between.output
    published = await command(settings, "policy", "diff", "1.0", "1.1", "--site", site, "--json")
    found = json.loads(published.output)
    assert (found["before"], found["after"]) == ("1.0", "1.1")
    assert [each["purpose"] for each in found["asksAgain"]] == ["analytics"]
    alone = json.loads((await command(settings, "policy", "diff", "1.1", "--site", site, "--json")).output)
    assert alone == found
    assert (await command(settings, "policy", "diff", "1.0", "1.1")).exit_code == 2


@pytest.mark.parametrize("name", ["publish", "list", "show", "diff", "check"])
async def test_every_command_says_what_it_does(settings: Settings, name: str) -> None:
    done = await command(settings, "policy", name, "--help")
    assert (done.exit_code, "--json" in done.output) == (0, True)


def test_what_is_never_asked_is_not_asked_again() -> None:
    before = parse_site_document((Path(ledger.__file__).parent / "sites" / "weco.nexaxt.com.yaml").read_bytes())
    after = replace(before, policy=replace(before.policy, version="1.1", material=True))
    assert [asked.purpose for asked in compare(before, after).asks_again] == ["preferences", "analytics", "marketing"]
