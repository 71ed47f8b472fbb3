"""Founding a site, broken off anywhere, at once from two sides, and against what is there already."""

from __future__ import annotations

import asyncio
import itertools
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from ledger import provision
from ledger.admin_log import acts as read_acts
from ledger.administration import Administration
from ledger.app import open_service
from ledger.config import Settings
from ledger.core.admin_act import admin_log_of
from ledger.core.entry import Kind
from ledger.core.errors import ConfigInvalid, DocumentInvalid, VersionTaken
from ledger.keys.files import founding_key, paths_of, write_key_file
from ledger.keys.sealed import seal
from ledger.provision import SiteCredentials, create_site
from ledger.service import Service
from tests.harness import check_log, document, new_site_name

STEPS: dict[str, tuple[object, str, int]] = {
    "the first key": (provision, "founding_key", 1),
    "the genesis entry": (provision, "append_one", 1),
    "the first key of the administrative log": (provision, "founding_key", 4),
    "its genesis entry": (provision, "append_one", 2),
    "the first checkpoint of one of them": (provision, "first_checkpoint", 1),
    "the act of founding": (Administration, "record", 1),
    "the policy": (Service, "publish", 1),
    "the API keys": (provision, "create_api_key", 1),
}
"""What a founding does, and at which call of it it breaks off."""


async def check_founded(settings: Settings, site: SiteCredentials) -> None:
    """One genesis and one policy, and events are recorded and decided upon with the keys that were given."""
    log = await check_log(settings, site)
    assert [entry.kind for entry in log.entries] == [Kind.GENESIS, Kind.POLICY]
    admin_log = site._replace(site=admin_log_of(site.site), log_id=site.admin_log_id, log_vkey=site.admin_log_vkey)
    kinds = [entry.kind for entry in (await check_log(settings, admin_log)).entries]
    assert kinds == [Kind.GENESIS] + [Kind.EVENT] * (len(kinds) - 1)
    async with open_service(settings) as service:
        loaded = await service.site(site.site)
        acts = [each.act async for each in read_acts(service.reads.pool, await service.sites.admin_log(site.site))]
        words = [act.act for act in acts if act is not None]
        assert words.count("site.added") == 1
        assert words.index("site.added") < words.index("policy.published") < words.index("key.created")
        assert (loaded.log_id.hex(), loaded.log_vkey) == (site.log_id, site.log_vkey)
        for key, key_class in ((site.publishable, "publishable"), (site.secret, "secret")):
            principal = await service.authenticate(loaded, key)
            assert principal is not None
            assert principal.key_class == key_class


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("step", STEPS)
async def test_a_founding_that_broke_off_anywhere_is_finished_by_the_next(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, step: str, moment: str
) -> None:
    owner, name, nth = STEPS[step]
    original: Callable[..., Any] = getattr(owner, name)
    calls = itertools.count(1)

    async def breaks_off(*arguments: Any, **options: Any) -> Any:
        if (here := next(calls) == nth) and moment == "before":
            raise RuntimeError("broken off")
        done = await original(*arguments, **options)
        if here:
            raise RuntimeError("broken off")
        return done

    def breaks_off_at_once(*arguments: Any) -> Any:
        if (here := next(calls) == nth) and moment == "before":
            raise RuntimeError("broken off")
        done = original(*arguments)
        if here:
            raise RuntimeError("broken off")
        return done

    monkeypatch.setattr(owner, name, breaks_off if asyncio.iscoroutinefunction(original) else breaks_off_at_once)
    body = document(new_site_name())
    with pytest.raises(RuntimeError, match="broken off"):
        await create_site(settings, body)
    monkeypatch.undo()
    await check_founded(settings, await create_site(settings, body))


async def test_founding_twice_gives_new_api_keys_of_the_same_log(settings: Settings) -> None:
    body = document(new_site_name())
    first, second = await create_site(settings, body), await create_site(settings, body)
    assert first.log_id == second.log_id
    assert len({first.publishable, first.secret, second.publishable, second.secret}) == 4
    for site in (first, second):
        await check_founded(settings, site)


async def test_many_who_found_a_site_at_once_found_one(settings: Settings) -> None:
    body = document(new_site_name())
    sites = await asyncio.gather(*(create_site(settings, body) for _ in range(5)))
    assert len({site.log_id for site in sites}) == 1
    for site in sites:
        await check_founded(settings, site)


async def test_of_two_with_keys_of_their_own_one_founds_and_the_other_is_told_so(
    settings: Settings, tmp_path: Path
) -> None:
    body = document(new_site_name())
    everyone = [replace(settings, keys_dir=tmp_path / f"keys-{n}") for n in range(3)]
    made = await asyncio.gather(*(create_site(each, body) for each in everyone), return_exceptions=True)
    (founder,) = [n for n, site in enumerate(made) if isinstance(site, SiteCredentials)]
    assert all(isinstance(site, ConfigInvalid) for n, site in enumerate(made) if n != founder), made
    site = made[founder]
    assert isinstance(site, SiteCredentials)
    await check_founded(everyone[founder], site)


async def test_keys_that_were_lost_are_not_made_anew(settings: Settings) -> None:
    name = new_site_name()
    site = await create_site(settings, document(name))
    away = settings.keys_dir.with_name("away")
    shutil.move(settings.keys_dir, away)
    with pytest.raises(ConfigInvalid, match="founded with other keys"):
        await create_site(settings, document(name))
    assert not settings.keys_dir.exists()
    async with open_service(settings) as service:
        loaded = await service.site(name)
        readiness = await service.readiness()
        assert readiness.checks[f"append {name}"].detail == "no-signer"
        assert loaded.policies.latest is not None
    shutil.move(away, settings.keys_dir)
    await check_founded(settings, await create_site(settings, document(name)))
    await check_founded(settings, site)


async def test_a_site_or_an_origin_is_founded_once_under_one_name(settings: Settings) -> None:
    name = new_site_name()
    await create_site(settings, document(name))
    with pytest.raises(ConfigInvalid, match="exists already"):
        await create_site(replace(settings, origin_prefix="other.test"), document(name))
    with pytest.raises(VersionTaken):
        await create_site(settings, document(name, effective="2026-02-02"))


async def test_what_cannot_be_a_site_leaves_nothing_behind(settings: Settings) -> None:
    for body in (b"", b"site: x", document("no_dot"), document("shop.example.com").replace(b"[en]", b"[1]")):
        with pytest.raises((DocumentInvalid, ConfigInvalid)):
            await create_site(settings, body)
    with pytest.raises(ConfigInvalid):
        await create_site(replace(settings, origin_prefix="a b"), document(new_site_name()))
    connection = await asyncpg.connect(settings.database_url)
    assert await connection.fetchval("select count(*) from ledger.site") == 0
    await connection.close()
    assert not settings.keys_dir.exists()


async def test_one_key_in_two_roles_is_refused_before_it_is_in_the_log(settings: Settings) -> None:
    name = new_site_name()
    origin = f"{settings.origin_prefix}/{name}"
    root = founding_key(settings, origin, "root")
    ingest = settings.keys_dir / name / "ingest-00000000.key"
    write_key_file(ingest, seal(root, origin, "ingest", settings.master_secret))
    with pytest.raises(ConfigInvalid, match="cannot be used"):
        await create_site(settings, document(name))
    ingest.unlink()
    await check_founded(settings, await create_site(settings, document(name)))


async def test_a_key_file_of_another_role_or_another_log_is_refused_where_a_log_begins(settings: Settings) -> None:
    name = new_site_name()
    origin = f"{settings.origin_prefix}/{name}"
    founding_key(settings, origin, "root")
    founding_key(settings, f"other.test/{name}", "log")
    folder = settings.keys_dir / name
    shutil.copy(folder / "root.key", folder / "ingest-00000000.key")
    with pytest.raises(ConfigInvalid, match="holds the root key"):
        await create_site(settings, document(name))
    (folder / "ingest-00000000.key").unlink()
    with pytest.raises(ConfigInvalid, match="no key is of two logs"):
        await create_site(settings, document(name))
    paths_of(settings, name, "log")[0].unlink()
    await check_founded(settings, await create_site(settings, document(name)))
