"""Who has the service's database login, and no key: what was signed is not his to replace."""

from __future__ import annotations

import asyncio

import asyncpg

from tests.adversary.gallery import Copy
from tests.adversary.victim import SIZE, Honest, victim
from tests.conftest import service_url


def test_the_services_login_adds_cosignatures_and_replaces_no_checkpoint(honest: Honest, copy: Copy) -> None:
    async def attack(admin_url: str) -> None:
        async with victim(honest, admin_url) as v:
            signed = v.checkpoint()
            await v.keep(signed, SIZE)
            service = await asyncpg.connect(service_url(admin_url))
            put = "select ledger.put_cosignatures($1, $2, $3, true)"
            stored = "select note from ledger.checkpoint where site_id = $1 and size = $2"
            for forged in (
                v.checkpoint(root=bytes(32)).encode(),
                v.checkpoint(SIZE - 1).encode(),
                signed.encode().replace(b"\n\n", b"\nanother line\n\n", 1),
                signed.body,
                b"",
            ):
                assert not await service.fetchval(put, v.site_id, SIZE, forged)
                assert await service.fetchval(stored, v.site_id, SIZE) == signed.encode()
            cosigned = v.cosigned(signed).encode()
            assert await service.fetchval(put, v.site_id, SIZE, cosigned)
            assert await service.fetchval(stored, v.site_id, SIZE) == cosigned
            await service.close()

    with copy() as admin_url:
        asyncio.run(attack(admin_url))
