"""Regions out of a location file: what is found, what is believed, and a file that comes, goes and breaks."""

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path

import maxminddb
import pytest
from multidict import CIMultiDict

from ledger import config, region
from ledger.config import Settings, load_settings
from ledger.core.errors import ConfigInvalid
from ledger.core.whereabouts import parse_networks
from ledger.region import RegionFinder, built_at
from tests.harness import until
from tests.locations import ALMATY, ALMATY_V6, FRANKFURT, LONDON, NOWHERE, SAN_JOSE, write_locations

PROXY = "10.0.0.1"


def settings(path: Path | None = None, *, proxies: str = "", header: str = "") -> Settings:
    return Settings(
        database_url="",
        keys_dir=Path(),
        master_secret=b"",
        trusted_proxies=proxies,
        region_header=header,
        geoip_db=path,
    )


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write_locations(tmp_path / "places.mmdb")


@pytest.fixture(scope="module")
def behind_proxy(tmp_path_factory: pytest.TempPathFactory) -> RegionFinder:
    """It trusts a proxy, which tells the region, or else the client."""
    file = write_locations(tmp_path_factory.mktemp("locations") / "places.mmdb")
    return RegionFinder.of(settings(file, proxies="10.0.0.0/8", header="CF-IPCountry"))


@pytest.mark.parametrize(
    ("address", "region"),
    [
        (LONDON, "GB-ENG"),
        (FRANKFURT, "DE"),
        (SAN_JOSE, "US-CA"),
        (ALMATY, "KZ"),
        (ALMATY_V6, "KZ"),
        (f"::ffff:{ALMATY}", "KZ"),
        ("45.49.0.1", "US"),
        ("45.50.0.1", "KZ"),
        (NOWHERE, None),
        ("45.45.0.1", None),
        ("45.46.0.1", None),
        ("45.47.0.1", None),
        ("45.48.0.1", None),
        ("10.20.30.40", None),
        ("127.0.0.1", None),
        ("::1", None),
        ("fe80::1%eth0", None),
        ("nowhere", None),
        (None, None),
    ],
)
def test_an_address_is_found_in_the_file(behind_proxy: RegionFinder, address: str | None, region: str | None) -> None:
    assert behind_proxy.find(address, CIMultiDict()) == region


def test_an_ipv6_address_in_a_file_of_ipv4_is_unknown(tmp_path: Path) -> None:
    finder = RegionFinder.of(settings(write_locations(tmp_path / "v4.mmdb", version=4)))
    assert finder.find(ALMATY, CIMultiDict()) == "KZ"
    assert finder.find(f"::ffff:{ALMATY}", CIMultiDict()) == "KZ"
    assert finder.find(ALMATY_V6, CIMultiDict()) is None


def test_a_header_is_believed_from_a_trusted_proxy_alone(behind_proxy: RegionFinder) -> None:
    finder = behind_proxy
    told = CIMultiDict({"cf-ipcountry": "de", "X-Forwarded-For": ALMATY})
    assert finder.find(PROXY, told) == "DE"
    assert finder.find("::ffff:10.0.0.1", told) == "DE"
    assert finder.find(LONDON, told) == "GB-ENG"
    assert finder.find("11.0.0.1", told) is None


@pytest.mark.parametrize("code", ["XX", "T1", "EU", "ZZ", "A1", "", "Germany"])
def test_where_the_proxy_does_not_know_nothing_else_is_asked(behind_proxy: RegionFinder, code: str) -> None:
    assert behind_proxy.find(PROXY, CIMultiDict({"CF-IPCountry": code, "X-Forwarded-For": ALMATY})) is None


def test_a_header_that_came_twice_is_nobodys_word(behind_proxy: RegionFinder) -> None:
    assert behind_proxy.find(PROXY, CIMultiDict([("CF-IPCountry", "KZ"), ("CF-IPCountry", "DE")])) is None


def test_without_the_header_the_client_that_the_proxy_names_is_looked_up(behind_proxy: RegionFinder) -> None:
    finder = behind_proxy
    assert finder.find(PROXY, CIMultiDict({"X-Forwarded-For": f"{FRANKFURT}, {ALMATY}"})) == "KZ"
    assert finder.find(PROXY, CIMultiDict({"Forwarded": f"for={ALMATY}"})) == "KZ"
    assert finder.find(PROXY, CIMultiDict()) is None
    assert finder.find(FRANKFURT, CIMultiDict({"X-Forwarded-For": ALMATY})) == "DE"


def test_without_settings_everybody_is_anywhere() -> None:
    finder = RegionFinder()
    assert finder.find(ALMATY, CIMultiDict({"CF-IPCountry": "KZ", "X-Forwarded-For": ALMATY})) is None
    assert finder.finding() == (0, 0, 0)


def test_what_is_counted_holds_no_address(file: Path) -> None:
    finder = RegionFinder.of(settings(file, proxies=PROXY))
    for address in (ALMATY, LONDON, NOWHERE, "garbage"):
        finder.find(PROXY, CIMultiDict({"X-Forwarded-For": address}))
        finder.find(address, CIMultiDict())
    finding = finder.finding()
    assert (finding.found, finding.unknown) == (4, 4)
    assert finding.built == built_at(file) > 1_700_000_000
    assert not any(address in repr(vars(finder)) for address in (ALMATY, LONDON, NOWHERE))


def test_proxies_are_remembered_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "REGION_PROXIES_REMEMBERED", 3)
    finder = RegionFinder(parse_networks("10.0.0.0/8"), "CF-IPCountry")
    for n in range(50):
        assert finder.find(f"10.0.0.{n}", CIMultiDict({"CF-IPCountry": "KZ"})) == "KZ"
        assert finder.find(f"11.0.0.{n}", CIMultiDict({"CF-IPCountry": "KZ"})) is None
    assert len(finder._proxies) == 3


# --- the file ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [None, b"", b"not a database", b"\xab\xcd\xefMaxMind.com"])
def test_a_file_that_cannot_be_read_is_told_at_the_start(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "places.mmdb"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigInvalid, match=r"LEDGER_GEOIP_DB=.*places\.mmdb"):
        RegionFinder.of(settings(path))


@pytest.mark.parametrize("good", [b"\x48iso_code", b"\x42KZ"])
def test_a_file_with_a_damaged_byte_is_refused_and_does_not_end_the_process(file: Path, good: bytes) -> None:
    finder = RegionFinder.of(settings(file))
    content = file.read_bytes()
    assert good in content
    file.write_bytes(content.replace(good, b"\x00" + good[1:], 1))
    with pytest.raises(maxminddb.InvalidDatabaseError):
        finder.reload()
    assert finder.find(ALMATY, CIMultiDict()) == "KZ"
    with pytest.raises(ConfigInvalid, match="damaged"):
        RegionFinder.of(settings(file))


async def test_who_stops_does_not_wait_for_a_file_to_be_read_through(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finder = RegionFinder.of(settings(file))
    monkeypatch.setattr(config, "REGION_RELOAD_SECONDS", 0.01)
    monkeypatch.setattr(region, "_READ_THROUGH", "import time; time.sleep(3600)")
    os.utime(file, ns=(1, 1))
    following = asyncio.create_task(finder.follow())

    async def reads() -> bool:
        return finder._check is not None and finder._check.poll() is None

    await until(reads)
    following.cancel()
    await asyncio.wait([following])
    await asyncio.get_running_loop().shutdown_default_executor()
    assert finder.find(ALMATY, CIMultiDict()) == "KZ"


def test_a_file_that_cannot_be_read_through_in_time_is_refused(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "REGION_CHECK_TIMEOUT_SECONDS", 0.001)
    with pytest.raises(ConfigInvalid, match="damaged"):
        RegionFinder.of(settings(file))


def test_a_file_that_is_too_large_is_not_read(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "REGION_DATABASE_MAX_BYTES", 100)
    with pytest.raises(ConfigInvalid, match="more than"):
        RegionFinder.of(settings(file))


async def test_a_replaced_file_is_read_and_a_broken_one_is_not(
    file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(config, "REGION_RELOAD_SECONDS", 0.01)
    finder = RegionFinder.of(settings(file))
    following = asyncio.create_task(finder.follow())

    def place() -> str | None:
        return finder.find(ALMATY, CIMultiDict())

    async def moved() -> bool:
        return place() == "DE"

    async def warned() -> bool:
        return "cannot be read" in caplog.text

    with caplog.at_level(logging.INFO):
        # Cut short in place, as a copy over it does: a file that is mapped would end the process here.
        os.truncate(file, 10)
        await until(warned)
        assert place() == "KZ"
        file.unlink()
        await asyncio.sleep(0.1)
        assert place() == "KZ"
        write_locations(file, {"5.34.0.0/17": {"country": {"iso_code": "DE"}}})
        await until(moved)
    following.cancel()
    assert caplog.text.count("no MaxMind-format database") == 1


def test_a_file_that_changes_while_it_is_read_is_left_for_later(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    finder = RegionFinder.of(settings(file))
    write_locations(file, {"5.34.0.0/17": {"country": {"iso_code": "DE"}}})
    real = maxminddb.open_database

    def touched(name: str) -> maxminddb.Reader:
        os.utime(file, ns=(1, os.stat(file).st_mtime_ns + 1))
        return real(name)

    monkeypatch.setattr(maxminddb, "open_database", touched)
    with pytest.raises(OSError, match="being written"):
        finder.reload()
    assert finder.find(ALMATY, CIMultiDict()) == "KZ"
    monkeypatch.setattr(maxminddb, "open_database", real)
    assert finder.reload()
    assert finder.find(ALMATY, CIMultiDict()) == "DE"


def test_reading_a_file_again_and_again_leaves_nothing_open(file: Path) -> None:
    finder = RegionFinder.of(settings(file))
    before = len(os.listdir("/proc/self/fd"))
    for n in range(5):
        os.utime(file, ns=(n, n))
        assert finder.reload()
        assert not finder.reload()
    assert len(os.listdir("/proc/self/fd")) <= before


# --- settings ---------------------------------------------------------------------------------------------------------

NEEDED = {"LEDGER_DATABASE_URL": "postgresql://x", "LEDGER_MASTER_SECRET": "A" * 43 + "="}


def test_the_settings_are_read_and_handed_on() -> None:
    set_up = {
        **NEEDED,
        "LEDGER_TRUSTED_PROXIES": "10.0.0.0/8, ::1",
        "LEDGER_REGION_HEADER": "CF-IPCountry",
        "LEDGER_GEOIP_DB": "/var/lib/GeoIP/GeoLite2-Country.mmdb",
    }
    loaded = load_settings(set_up)
    assert loaded.geoip_db == Path("/var/lib/GeoIP/GeoLite2-Country.mmdb")
    assert load_settings(loaded.environment()) == loaded


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        ({"LEDGER_TRUSTED_PROXIES": "10.0.0.1/8"}, "LEDGER_TRUSTED_PROXIES: '10.0.0.1/8'"),
        ({"LEDGER_TRUSTED_PROXIES": "0.0.0.0/0"}, "is everybody"),
        ({"LEDGER_REGION_HEADER": "CF-IPCountry"}, "needs LEDGER_TRUSTED_PROXIES"),
        ({"LEDGER_REGION_HEADER": "CF IPCountry", "LEDGER_TRUSTED_PROXIES": "::1"}, "is the name of a header"),
    ],
)
def test_settings_that_would_believe_anybody_are_refused(variables: dict[str, str], told: str) -> None:
    with pytest.raises(ConfigInvalid) as refused:
        load_settings({**NEEDED, **variables})
    assert told in str(refused.value)
