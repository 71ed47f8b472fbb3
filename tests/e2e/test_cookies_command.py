"""The cookie inventory for operators: the command line, what `doctor` says of policies and cookies, the metrics."""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio
from click.testing import CliRunner, Result
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest

from ledger import config
from ledger.app import open_service
from ledger.cli import main
from ledger.config import Settings
from ledger.doctor.examine import examine
from ledger.doctor.finding import Finding, Verdict
from ledger.metrics import CookieCollector
from ledger.provision import create_site
from tests.conftest import Database
from tests.harness import until
from tests.locations import write_locations

SITE = "shop.example.com"
DOCUMENT = """
site: shop.example.com
controller: {name: A shop, email: dpo@shop.example.com}
languages: [en]
origins: [https://shop.example.com]
policy: {version: "1.0", effectiveAt: 2026-01-01, url: https://shop.example.com/cookies}
regimes: {default: opt-out, EEA: opt-in, UK: opt-in}
renewAfter: P12M
reaskAfter: {refusal: P1M}
reviewCookiesEvery: P30D
storedIn: [DE]
residency: [KZ]
purposes:
  necessary:
    required: true
    title: {en: Necessary}
    description: {en: Nothing works without them.}
    cookies:
      - {name: sid, description: {en: The session}, duration: session}
      - {description: {en: What has no name}, duration: P1D}
  analytics:
    title: {en: Analytics}
    description: {en: Counts visits.}
    cookies:
      - {pattern: ph_*_posthog, description: {en: PostHog}, duration: P6M}
"""

Command = Callable[..., Result]


@pytest_asyncio.fixture
async def command(settings: Settings, database: Database) -> AsyncIterator[Command]:
    """Runs `consent-ledger …` against a ledger with one site."""
    await create_site(settings, DOCUMENT.encode())
    environ = {**{name: "" for name in os.environ if name.startswith("LEDGER_")}, **settings.environment()}

    async def run(*arguments: str, stdin: str = "") -> Result:
        invoke: Callable[[], Result] = lambda: CliRunner().invoke(main, arguments, input=stdin, env=environ)  # noqa: E731
        return await asyncio.to_thread(invoke)

    yield run


async def test_what_a_crawler_reports_is_listed_and_reviewed(command: Command) -> None:
    done = await command("cookies", "report", SITE, "sid", "ph_phc_1234567_posthog", "abc_8f3a01b2")
    assert (done.exit_code, done.output.split()) == (0, ["sid", "ph_*_posthog", "abc_*"]), done.output
    done = await command("cookies", "report", SITE, "--storage", "localStorage", stdin="draft\n\n  theme\n")
    assert (done.exit_code, done.output.split()) == (0, ["draft", "theme"])

    listed = await command("cookies", "list", SITE)
    assert listed.exit_code == 0, listed.output
    assert re.search(r"sid +cookie +seen on 2[0-9-]{9}\n", listed.output)
    assert "(What has no name) " in listed.output
    assert "cannot be seen without a name" in listed.output
    declared, undeclared = listed.output.split("UNDECLARED")
    assert "abc_*" not in declared
    assert [line.split()[:2] for line in undeclared.splitlines()[1:4]] == [
        ["abc_*", "cookie"],
        ["draft", "localStorage"],
        ["theme", "localStorage"],
    ]
    assert "never reviewed; every P30D" in listed.output
    assert "OVERDUE" not in listed.output
    assert (await command("cookies", "list", SITE, "--check")).exit_code == 1

    inventory = json.loads((await command("cookies", "list", SITE, "--json")).output)
    assert len(inventory["undeclared"]) == 3
    refused = await command("cookies", "review", SITE, "--by", "counsel", "--inventory", "0" * 64)
    assert (refused.exit_code, "another one by now" in refused.output) == (2, True)
    done = await command("cookies", "review", SITE, "--by", "counsel", "--inventory", inventory["inventory"])
    assert (done.exit_code, "review 1 recorded: by counsel" in done.output) == (0, True), done.output
    again = await command("cookies", "review", SITE, "--by", "counsel")
    assert "review 1 was recorded today already" in again.output
    listed = await command("cookies", "list", SITE)
    assert "last reviewed by counsel" in listed.output

    done = await command("cookies", "forget", SITE, "abc_*", "theme")
    assert (done.exit_code, done.output) == (0, "forgot 2 names\n")
    done = await command("cookies", "forget", SITE, "draft")
    assert done.output == "forgot 1 name\n"
    assert (await command("cookies", "list", SITE, "--check")).exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("report", SITE), "no names"),
        (("report", SITE, "_ga=GA1.2"), "never values"),
        (("report", SITE, "anna@example.com"), "address"),
        (("report", SITE, "a" * 129), "128"),
        (("review", SITE, "--by", "anna@example.com"), "a role, 1 to 64"),
        (("review", SITE, "--by", "counsel", "--inventory", "f00"), "the hash that `list` shows"),
        (("forget", SITE), "--unseen"),
        (("forget", SITE, "a", "--unseen", "3"), "--unseen"),
        (("list", "nowhere.example.com"), "no site"),
    ],
)
async def test_what_cannot_be_done_is_told_with_exit_code_2(
    command: Command, arguments: tuple[str, ...], told: str
) -> None:
    done = await command("cookies", *arguments)
    assert (done.exit_code, told in done.output) == (2, True), done.output


async def test_what_was_not_seen_for_long_may_be_forgotten(command: Command, database: Database) -> None:
    await command("cookies", "report", SITE, "old", "new")
    admin = await asyncpg.connect(database.admin_url)
    await admin.execute(
        "update ledger.observed_cookie set first_seen = first_seen - 50, last_seen = last_seen - 40 where name = 'old'"
    )
    await admin.close()
    assert (await command("cookies", "forget", SITE, "--unseen", "41")).output == "forgot 0 names\n"
    assert (await command("cookies", "forget", SITE, "--unseen", "39")).output == "forgot 1 name\n"
    assert "new" in (await command("cookies", "list", SITE)).output


# --- doctor and metrics -----------------------------------------------------------------------------------------------


async def findings(settings: Settings, what: str) -> list[Finding]:
    return [finding async for finding in examine(settings) if what in finding.what]


async def test_doctor_tells_what_to_think_over_in_policies_and_cookies(
    command: Command, settings: Settings, database: Database
) -> None:
    policy = await findings(settings, "policy 1.0")
    assert {finding.verdict for finding in policy} == {Verdict.ADVICE}
    told = "\n".join(finding.detail for finding in policy)
    assert "KZ wants it kept in the country" in told
    assert "asks again P1M after a refusal" in told
    (good,) = await findings(settings, "cookies")
    assert (good.verdict, good.detail) == (Verdict.GOOD, "all declared, and no review is overdue")

    await command("cookies", "report", SITE, "abc", "def")
    (undeclared,) = await findings(settings, "cookies")
    assert (undeclared.verdict, "2 names that no policy declares" in undeclared.detail) == (Verdict.ADVICE, True)
    admin = await asyncpg.connect(database.admin_url)
    await admin.execute("update ledger.observed_cookie set first_seen = '2020-01-01', last_seen = '2020-02-01'")
    await admin.close()
    (good,) = await findings(settings, "cookies")
    assert (good.verdict, good.detail) == (Verdict.GOOD, "all declared, and no review is overdue")


async def test_doctor_tells_of_the_version_that_comes_next(
    command: Command, settings: Settings, tmp_path: Path
) -> None:
    next_version = tmp_path / "next.yaml"
    changed = DOCUMENT.replace('"1.0"', '"2.0"').replace("2026-01-01", "2100-01-01")
    next_version.write_text(changed.replace("refusal: P1M", "refusal: P12M").replace("residency: [KZ]\n", ""))
    done = await command("policy", "publish", str(next_version))
    assert done.exit_code == 0, done.output
    assert all("in force" in finding.detail for finding in await findings(settings, "policy 1.0"))
    coming = await findings(settings, "policy 2.0")
    assert coming
    assert all(finding.detail.startswith("next to come") for finding in coming)
    assert not any("asks again" in finding.detail for finding in coming)


async def test_doctor_tells_whether_regions_are_known(command: Command, settings: Settings, tmp_path: Path) -> None:
    (unknown,) = await findings(settings, "regions")
    assert (unknown.verdict, "LEDGER_GEOIP_DB" in unknown.detail) == (Verdict.ADVICE, True)
    told = replace(settings, trusted_proxies="10.0.0.0/8", region_header="CF-IPCountry")
    assert (await findings(told, "regions"))[0].verdict is Verdict.GOOD
    file = write_locations(tmp_path / "places.mmdb")
    assert (await findings(replace(settings, geoip_db=file), "regions"))[0].verdict is Verdict.GOOD
    file.write_bytes(b"nothing")
    (broken,) = await findings(replace(settings, geoip_db=file), "regions")
    assert (broken.verdict, "damaged" in broken.detail) == (Verdict.BAD, True)


async def test_the_figures_are_measured_and_exposed(command: Command, settings: Settings) -> None:
    await command("cookies", "report", SITE, "abc", "def")
    registry = CollectorRegistry()
    async with open_service(settings) as service:
        registry.register(CookieCollector(service.cookies))
        watching = asyncio.create_task(service.cookies.watch(service.sites.loaded))

        async def measured() -> bool:
            return "cookies_undeclared{" in generate_latest(registry).decode()

        await until(measured)
        watching.cancel()
    told = generate_latest(registry).decode()
    assert f'consent_ledger_cookies_undeclared{{site="{SITE}"}} 2.0' in told
    assert f'consent_ledger_cookie_review_overdue_seconds{{site="{SITE}"}} 0.0' in told


async def test_an_overdue_review_is_told_by_list_doctor_and_metrics(
    command: Command, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config, "COOKIES_WATCH_SECONDS", 0.1)
    document = tmp_path / "next.yaml"
    document.write_text(DOCUMENT.replace('"1.0"', '"1.1"').replace("P30D", "PT1S"))
    assert (await command("policy", "publish", str(document))).exit_code == 0
    registry = CollectorRegistry()
    async with open_service(settings) as service:
        registry.register(CookieCollector(service.cookies))
        watching = asyncio.create_task(service.cookies.watch(service.sites.loaded))

        async def overdue() -> bool:
            told = generate_latest(registry).decode()
            measured = re.search(r"consent_ledger_cookie_review_overdue_seconds\{[^}]*\} ([0-9.e+]+)", told)
            return measured is not None and float(measured[1]) > 0

        await until(overdue)
        watching.cancel()
    listed = await command("cookies", "list", SITE, "--check")
    assert (listed.exit_code, "OVERDUE by 0 d" in listed.output) == (1, True)
    (late,) = await findings(settings, "cookies")
    assert (late.verdict, "overdue by" in late.detail) == (Verdict.ADVICE, True)
