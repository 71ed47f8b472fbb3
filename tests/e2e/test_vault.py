"""Data keys at work: what stands in clear; keys made ahead, closed, used up and destroyed; rows tampered with."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import asyncpg
import pytest
import pytest_asyncio

from ledger import config
from ledger.config import Settings
from ledger.core.errors import ConfigInvalid, SealBroken, Unavailable
from ledger.core.sealing import Master, key_no_of
from ledger.data_keys import KeyMaker, destroy_empty_keys
from ledger.doctor.examine import examine
from ledger.doctor.finding import Verdict
from ledger.secrets import new_event_id
from ledger.vault import Vaults, make_key, read_vault
from tests.conftest import Database
from tests.e2e.conftest import Shop
from tests.harness import grant, new_visitor, now_ms, refusal

FIRST = 3
"""The number of a site's first opening key: `lookup` and `register` are made before it."""


@pytest_asyncio.fixture
async def superuser(database: Database) -> AsyncIterator[asyncpg.Connection]:
    """Past every guard."""
    connection = await asyncpg.connect(database.admin_url)
    for trigger in ("ledger_refuse_ddl", "ledger_refuse_drop"):
        await connection.execute(f"drop event trigger {trigger}")
    await connection.execute("alter table ledger.opening disable trigger all")
    yield connection
    await connection.close()


async def age(superuser: asyncpg.Connection, shop: Shop, days: float) -> None:
    """Time passes for the keys of the shop, and its processes look at them again."""
    await superuser.execute(
        "update ledger.data_key set created_at = created_at - make_interval(secs => $2) where site_id = $1",
        shop.site.site_id,
        days * 86_400,
    )
    await shop.vaults.refresh()


async def sealed_by(shop: Shop, seq: int) -> int:
    return key_no_of(await shop.pool.fetchval("select sealed from ledger.opening where seq = $1 and site_id = 1", seq))


async def dumped(superuser: asyncpg.Connection) -> bytes:
    """Every row of every table of the ledger, as text."""
    tables = await superuser.fetch(
        "select relname from pg_class where relnamespace = 'ledger'::regnamespace and relkind = 'r'"
    )
    rows: list[str] = []
    for table in tables:
        rows += [str(tuple(row)) for row in await superuser.fetch(f"select * from ledger.{table['relname']}")]
    return "\n".join(rows).encode()


async def test_no_row_of_the_database_holds_a_visitor_an_account_or_a_payload(
    shop: Shop, superuser: asyncpg.Connection
) -> None:
    visitor, account = new_visitor(), "customer-4711@example.com"
    link = {"id": new_event_id(now_ms()), "type": "account.linked", "visitor": visitor, "account": account}
    await shop.record(link, secret=True)
    receipt = (await shop.record(grant(visitor=visitor, scope="account", language="tlh"))).receipt
    await shop.erase([(await shop.record(refusal(visitor=visitor))).receipt.seq])
    await shop.project()
    dump = await dumped(superuser)
    assert str(receipt.seq).encode() in dump
    for secret in (visitor, account, '"language":"tlh"', "customize", "ticket-1"):
        assert secret.encode() not in dump, secret
        assert secret.encode().hex().encode() not in dump, secret
    assert (await shop.service.receipt(shop.site, receipt.id)).payload == receipt.payload


async def test_a_key_a_period_is_made_ahead_and_old_ones_go_when_nothing_is_left_under_them(
    shop: Shop, settings: Settings, superuser: asyncpg.Connection
) -> None:
    maker = KeyMaker(settings, shop.pool)
    first = (await shop.record(grant())).receipt
    await maker.round()
    assert await sealed_by(shop, first.seq) == FIRST, "the first is used at once, and no other is due"

    await age(superuser, shop, config.DATA_KEY_PERIOD_DAYS)
    await maker.round()
    await maker.round()
    await shop.vaults.refresh()
    second = (await shop.record(grant())).receipt
    assert await sealed_by(shop, second.seq) == FIRST, "not every process may have seen the new one yet"
    await age(superuser, shop, config.DATA_KEY_AHEAD_SECONDS / 86_400)
    third = (await shop.record(grant())).receipt
    assert await sealed_by(shop, third.seq) == FIRST + 1

    await age(superuser, shop, config.DATA_KEY_PERIOD_DAYS)
    await maker.round()
    await age(superuser, shop, 1)
    fourth = (await shop.record(grant())).receipt
    assert await sealed_by(shop, fourth.seq) == FIRST + 2
    assert await destroy_empty_keys(shop.pool, shop.site.site_id) == [], "openings are left under it"
    stolen = await shop.pool.fetchval("select sealed from ledger.opening where seq = $1 and site_id = 1", first.seq)
    await shop.erase([first.seq])
    assert await destroy_empty_keys(shop.pool, shop.site.site_id) == []
    await shop.erase([second.seq])
    await maker.round()
    assert (
        await shop.pool.fetchval("select wrapped from ledger.data_key where key_no = $1 and site_id = 1", FIRST) is None
    )
    await shop.vaults.refresh()
    with pytest.raises(SealBroken, match="destroyed"):
        shop.site.vault.open("opening", b"", stolen)
    for kept in (third, fourth):
        assert (await shop.service.receipt(shop.site, kept.id)).payload == kept.payload
    for key_no in (FIRST + 1, FIRST + 2, 1, 2, FIRST, 99):
        destroy = "select ledger.destroy_data_key($1, $2)"
        assert not await shop.pool.fetchval(destroy, shop.site.site_id, key_no), "needed, gone, or none"


async def test_a_key_that_is_closed_or_used_up_seals_nothing_more(
    shop: Shop, settings: Settings, superuser: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = shop.site
    stale = site.vault._sealing
    for _ in range(2):
        await make_key(shop.pool, site.site_id, site.log_id, "opening", *settings.masters)
    await age(superuser, shop, 1)
    current, site.vault._sealing = site.vault._sealing, stale
    with pytest.raises(Unavailable) as refused:
        await shop.record(grant())
    assert refused.value.reason == "data-key-closed"
    site.vault._sealing = current
    assert await sealed_by(shop, (await shop.record(grant())).receipt.seq) == FIRST + 2
    most = 2 * config.DATA_KEY_MAX_ENTRIES - 1
    await superuser.execute(
        "update ledger.data_key set since_seq = since_seq - $2::bigint where site_id = $1", site.site_id, most
    )
    with pytest.raises(Unavailable) as refused:
        await shop.record(grant())
    assert refused.value.reason == "data-key-closed"
    monkeypatch.setattr(site.sequencer, "trouble", None)
    await KeyMaker(settings, shop.pool).round()
    await age(superuser, shop, 1)
    assert await sealed_by(shop, (await shop.record(grant())).receipt.seq) == FIRST + 3, "long before it came to that"


TAMPERING = (
    "update ledger.opening o set sealed = p.sealed from ledger.opening p where o.seq = $1 and p.seq = $2",
    "update ledger.opening set sealed = substring(sealed for octet_length(sealed) - 1) where seq = $1 and $2 > 0",
    "update ledger.opening set sealed = set_byte(sealed, 4, 2) where seq = $1 and $2 > 0",
    "update ledger.opening set sealed = set_byte(sealed, 0, 2) where seq = $1 and $2 > 0",
    "update ledger.opening set sealed = set_byte(sealed, 5, get_byte(sealed, 5) # 1) where seq = $1 and $2 > 0",
    "update ledger.opening set sealed = '' where seq = $1 and $2 > 0",
)
"""With another row's bytes, cut off, under another key, version or nonce, and emptied."""


async def test_a_row_that_was_tampered_with_is_refused_and_the_others_are_read(
    shop: Shop, superuser: asyncpg.Connection
) -> None:
    other = (await shop.record(grant())).receipt
    for tampering in TAMPERING:
        one = (await shop.record(grant())).receipt
        await superuser.execute(tampering, one.seq, other.seq)
        with pytest.raises(SealBroken):
            await shop.service.receipt(shop.site, one.id)
    assert (await shop.service.receipt(shop.site, other.id)).payload == other.payload


async def test_keys_that_were_swapped_altered_or_are_under_another_secret_are_told(
    shop: Shop, settings: Settings, superuser: asyncpg.Connection
) -> None:
    site_id, (master,) = shop.site.site_id, settings.masters

    async def read(*masters: Master) -> None:
        await Vaults(shop.pool, masters).of(site_id)

    await read(master)
    with pytest.raises(ConfigInvalid, match="LEDGER_MASTER_SECRET is not the one"):
        await read(Master(1, bytes(32)))
    with pytest.raises(ConfigInvalid, match="under version 1 of the master secret, and version 2"):
        await read(Master(2, master.secret))
    told = [f async for f in examine(replace(settings, master_secret=bytes(32))) if f.what.endswith("data keys")]
    assert {finding.verdict for finding in told} == {Verdict.BAD}
    for edit in (
        "update ledger.data_key k set wrapped = o.wrapped from ledger.data_key o where o.key_no = 2 and k.key_no = 3",
        "update ledger.data_key set role = 'opening' where key_no = 2",
        "update ledger.data_key set wrapped = set_byte(wrapped, 20, get_byte(wrapped, 20) # 1)",
        "update ledger.data_key k set wrapped = o.wrapped from ledger.data_key o where o.site_id <> k.site_id and "
        "o.key_no = k.key_no",
        "delete from ledger.data_key where key_no = 1",
    ):
        transaction = superuser.transaction()
        await transaction.start()
        await superuser.execute(edit)
        with pytest.raises(ConfigInvalid):
            await read_vault(superuser, site_id, [master])
        await transaction.rollback()
    everything = [finding async for finding in examine(settings)]
    version = (await superuser.fetchval("show server_version")).split()[0]
    assert everything[0].detail == f"PostgreSQL {version} answers"
    told = [finding for finding in everything if finding.what.endswith("data keys")]
    assert {finding.verdict for finding in told} == {Verdict.GOOD}
    assert "under version 1" in told[0].detail
