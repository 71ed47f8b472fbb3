"""Receipt keys: made with the site, the newest signs, all are published, and none has another role."""

from __future__ import annotations

import asyncpg
import pytest
import pytest_asyncio

from ledger import config as bounds
from ledger.app import open_service
from ledger.config import Settings
from ledger.core.ed25519 import SigningKey
from ledger.core.encoding import encode_base64
from ledger.core.errors import Unavailable
from ledger.keys.files import keys_here, paths_of, receipt_keys, write_key_file
from ledger.keys.receipts import ReceiptKeys
from ledger.keys.sealed import seal
from ledger.provision import SiteCredentials, create_site
from ledger.service import Service
from tests.fault.keys import ids, key, load_key, refused
from tests.harness import check_log, document, found


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "RECEIPT_KEYS_CACHE_SECONDS", 0.0)


@pytest_asyncio.fixture
async def site(settings: Settings) -> SiteCredentials:
    return await found(settings)


def origin_of(site: SiteCredentials) -> str:
    return site.log_vkey.partition("+")[0]


async def signs(settings: Settings, service: Service, name: str) -> bytes:
    keys = ReceiptKeys(settings, service.reads)
    return (await keys.signing(await service.site(name), service.sites.loaded())).public


async def published(settings: Settings, service: Service) -> list[bytes]:
    return await ReceiptKeys(settings, service.reads).published(service.sites.loaded())


async def test_a_site_has_one_from_the_beginning_and_founding_again_makes_no_second(
    settings: Settings, site: SiteCredentials
) -> None:
    (path,) = paths_of(settings, site.site, "receipt")
    assert path.stat().st_mode & 0o777 == 0o600
    await create_site(settings, document(site.site))
    assert paths_of(settings, site.site, "receipt") == [path]
    assert len((await check_log(settings, site)).entries) == 2, "the log knows nothing of it"


async def test_a_ledger_of_before_gets_one_when_its_site_is_founded_again(
    settings: Settings, site: SiteCredentials
) -> None:
    for path in paths_of(settings, site.site, "receipt"):
        path.unlink()
    await create_site(settings, document(site.site))
    assert len(paths_of(settings, site.site, "receipt")) == 1


async def test_the_newest_signs_and_older_ones_are_published_until_their_files_are_removed(
    settings: Settings, site: SiteCredentials
) -> None:
    async with open_service(settings) as service:
        await service.site(site.site)
        first = await signs(settings, service, site.site)
        for _ in range(11):  # beyond ten, where names and numbers sort differently without leading zeros
            said = await key(settings, "new", site.site, "receipt")
        newest = await signs(settings, service, site.site)
        assert len(await ids(settings, site, "receipt", "published")) == 11
        (current,) = await ids(settings, site, "receipt", "signs receipts")
        assert current in said
        assert "JWK kid" in said
        both = await published(settings, service)
        assert (both[0], both[-1], len(both)) == (newest, first, 12)
        oldest = list(receipt_keys(settings, site.site).keys)[-1]
        oldest.unlink()
        assert first not in await published(settings, service)


async def test_without_one_the_message_says_what_to_do(settings: Settings, site: SiteCredentials) -> None:
    for path in paths_of(settings, site.site, "receipt"):
        path.write_text("damaged")
    async with open_service(settings) as service:
        await service.site(site.site)
        with pytest.raises(Unavailable, match=f"consent-ledger key new {site.site} receipt") as told:
            await signs(settings, service, site.site)
        assert told.value.reason == "no-receipt-key"
        assert await published(settings, service) == []


@pytest.mark.parametrize("role", ["root", "ingest", "log"])
async def test_a_key_of_the_log_is_no_receipt_key_whatever_a_file_says(
    settings: Settings, site: SiteCredentials, role: str
) -> None:
    of_log = load_key(settings, site.site, role)
    sealed = seal(of_log, origin_of(site), "receipt", settings.master_secret)
    directory = settings.keys_dir / site.site
    write_key_file(directory / f"receipt-0099-{sealed.key_id}.key", sealed)
    async with open_service(settings) as service:
        await service.site(site.site)
        assert await signs(settings, service, site.site) != of_log.public
        assert of_log.public not in await published(settings, service)


async def test_one_key_of_two_sites_signs_for_neither(settings: Settings, site: SiteCredentials) -> None:
    other = await found(settings)
    shared = SigningKey(bytes(range(32)))
    for one in (site, other):
        sealed = seal(shared, origin_of(one), "receipt", settings.master_secret)
        write_key_file(settings.keys_dir / one.site / f"receipt-0099-{sealed.key_id}.key", sealed)
    async with open_service(settings) as service:
        for one in (site, other):
            await service.site(one.site)
        assert shared.public not in await published(settings, service)
        for one in (site, other):
            assert await signs(settings, service, one.site) != shared.public


async def test_a_receipt_key_is_never_introduced(settings: Settings, site: SiteCredentials) -> None:
    (receipt_id,) = await ids(settings, site, "receipt", "signs receipts")
    assert "never introduced" in await refused(settings, "introduce", site.site, receipt_id)
    receipt = next(iter(keys_here(settings, site.site, "receipt").keys.values()))
    sealed = seal(receipt, origin_of(site), "ingest", settings.master_secret)
    write_key_file(settings.keys_dir / site.site / f"ingest-{sealed.key_id}.key", sealed)
    path = paths_of(settings, site.site, "receipt")[0]
    path.rename(path.with_name("receipt-0001-other.key"))
    assert "no key has two roles" in await refused(settings, "introduce", site.site, f"ingest-{sealed.key_id}.key")
    assert encode_base64(receipt.public) not in str((await check_log(settings, site)).entries)


async def test_a_key_of_another_log_lying_here_is_not_used(settings: Settings, site: SiteCredentials) -> None:
    other = await found(settings)
    (path,) = paths_of(settings, other.site, "receipt")
    (settings.keys_dir / site.site / "receipt-0099-00000000.key").write_bytes(path.read_bytes())
    async with open_service(settings) as service:
        await service.site(site.site)
        own = next(iter(keys_here(settings, site.site, "receipt").keys.values()))
        assert await signs(settings, service, site.site) == own.public
        assert len(await published(settings, service)) == 2, "one of each site"


async def test_the_database_is_asked_no_more_than_the_keys_change(
    settings: Settings, site: SiteCredentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_service(settings) as service:
        await service.site(site.site)
        keys = ReceiptKeys(settings, service.reads)
        await keys.published(service.sites.loaded())

        async def never(site_id: int) -> list[bytes]:
            raise asyncpg.InterfaceError("asked again")

        monkeypatch.setattr(service.reads, "key_entries", never)
        assert len(await keys.published(service.sites.loaded())) == 1
