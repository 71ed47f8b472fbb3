"""The file `keyring`: every data key, wrapped under the master secret, as the database has it now.

It lies beside the backups and in none of them, and is replaced whenever a key is made, wrapped anew or destroyed. So a
key destroyed today opens nothing in a backup of last month. Whoever keeps older copies of it gives that up.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import asyncpg
import msgspec

from ledger.backup.archive import About
from ledger.core.errors import ConfigInvalid
from ledger.durable import replace

_READ = """
select s.origin, k.key_no, k.role, k.master_version, k.wrapped, k.since_seq, k.created_at, k.destroyed_at
  from ledger.data_key k join ledger.site s on s.site_id = k.site_id order by s.origin, k.key_no
"""
_PUT = """
insert into ledger.data_key (site_id, key_no, role, master_version, wrapped, since_seq, created_at, destroyed_at)
    select s.site_id, $2, $3, $4, $5, least($6, coalesce(e.size, 0)), $7, $8
      from ledger.site s
      left join lateral (select max(e.seq) + 1 as size from ledger.entry e where e.site_id = s.site_id) e on true
     where s.origin = $1
    on conflict (site_id, key_no) do nothing
"""
_RENEW = """
update ledger.data_key k set wrapped = $3, master_version = $4, destroyed_at = $5
  from ledger.site s where s.origin = $1 and k.site_id = s.site_id and k.key_no = $2
   and k.wrapped is not null and k.master_version <= $4 and (k.wrapped, k.master_version) is distinct from ($3, $4)
"""


class Wrapped(msgspec.Struct, frozen=True, rename="camel"):
    """A row of `ledger.data_key`; `wrapped` is None once it is destroyed."""

    key_no: int
    role: str
    master_version: int
    wrapped: bytes | None
    since_seq: int
    created_at: datetime
    destroyed_at: datetime | None


class Keyring(msgspec.Struct, frozen=True):
    """Origin -> its keys."""

    keys: dict[str, tuple[Wrapped, ...]]


async def read_keyring(connection: asyncpg.Connection | asyncpg.Pool) -> Keyring:
    """Of all sites, as they are now."""
    keys: dict[str, tuple[Wrapped, ...]] = {}
    for origin, *row in await connection.fetch(_READ):
        keys[origin] = (*keys.get(origin, ()), Wrapped(*row))
    return Keyring(keys)


def write_keyring(path: Path, keyring: Keyring) -> None:
    """Whole or not at all; left alone where it says so already. (It is read: an older one may have been put in its
    place.)"""
    data = msgspec.json.format(msgspec.json.encode(keyring)) + b"\n"
    try:
        if path.read_bytes() == data:
            return
    except FileNotFoundError:
        pass
    replace(path, data)


def load_keyring(path: Path) -> Keyring:
    """`ConfigInvalid` without one."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Keyring)
    except FileNotFoundError:
        raise ConfigInvalid(
            f"there is no {path}: without the data keys in it nobody can read what the backup holds of visitors. "
            "Name the directory where it lies with --beside"
        ) from None
    except msgspec.MsgspecError as error:
        raise ConfigInvalid(f"{path} cannot be read ({error}): put back the newest copy that is whole") from error


def check_keyring(keyring: Keyring, about: About, versions: Sequence[int]) -> None:
    """`ConfigInvalid` where it is of another ledger, older than the backup, or under a secret that is not at hand."""
    for site in about.sites:
        keys = keyring.keys.get(site.origin, ())
        if max((key.key_no for key in keys), default=0) < site.data_keys:
            raise ConfigInvalid(
                f"the keyring lacks data keys of {site.site} that the backup was sealed with: it is older than the "
                "backup, or of another ledger"
            )
        missing = {key.master_version for key in keys if key.wrapped is not None} - set(versions)
        if missing:
            raise ConfigInvalid(
                f"the data keys are wrapped under version {max(missing)} of the master secret: set "
                "LEDGER_MASTER_SECRET and LEDGER_MASTER_KEY_VERSION to it, as they are in the running ledger"
            )


def is_older(keyring: Keyring, about: About) -> bool:
    """Whether data keys were made or destroyed by then that it lacks, or has alive."""
    for site in about.sites:
        keys = keyring.keys.get(site.origin, ())
        if len(keys) < site.data_keys or sum(key.wrapped is None for key in keys) < site.destroyed:
            return True
    return False


async def put_keyring(connection: asyncpg.Connection, keyring: Keyring) -> None:
    """Into a database that has none, once its entries are there: a key that was made beyond them seals from their end
    on. Of sites that it does not have nothing is put."""
    for origin, keys in keyring.keys.items():
        for key in keys:
            await connection.execute(_PUT, origin, *msgspec.structs.astuple(key))


async def renew_keyring(connection: asyncpg.Connection, keyring: Keyring) -> None:
    """Into a database that has keys of its own, older ones: what was destroyed or wrapped anew since is so here too.
    Where the keyring is the older one, no key comes to life again, and none goes back under an older secret."""
    await put_keyring(connection, keyring)
    for origin, keys in keyring.keys.items():
        for key in keys:
            await connection.execute(_RENEW, origin, key.key_no, key.wrapped, key.master_version, key.destroyed_at)
