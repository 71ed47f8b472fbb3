"""Founding a site: its keys, its genesis entry, its first policy and its API keys. Safe to run again after any crash.

The root key is used here and by key commands alone; afterwards it belongs offline.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine, Sequence
from hashlib import sha256
from importlib.resources import files
from typing import Any, NamedTuple

import asyncpg

from ledger import config
from ledger.administration import Acting, Administration, Who, act_id_of, actor_here
from ledger.checkpointer.first import first_checkpoint
from ledger.core import keys
from ledger.core.admin_act import admin_log_of, is_admin_log
from ledger.core.ed25519 import SigningKey
from ledger.core.entry import ZEROS, Kind, core_bytes, key_hash, origin_hash
from ledger.core.errors import ConfigInvalid, KeyRefused, Malformed, Unavailable
from ledger.core.merkle import leaf_hash
from ledger.core.note import TYPE_ED25519, VerifierKey, check_origin, check_site
from ledger.core.notice import media_type_of
from ledger.core.policy import named_documents, parse_site_document
from ledger.keys.files import ensure_receipt_key, founding_key, keys_here, site_directory
from ledger.policies.authoring import check_uploads
from ledger.secrets import api_key_hash, api_key_id, new_api_key
from ledger.service import Service
from ledger.site import SiteRegistry
from ledger.store import errors as sql
from ledger.store.append import ControlDraft, Head, append_one
from ledger.store.clock import now_ms
from ledger.store.pool import open_pool
from ledger.store.reads import Reads
from ledger.store.sites import SiteRow
from ledger.vault import make_first_keys

SECRET_SCOPES = ("events", "check", "audit", "admin")
PUBLISHABLE_SCOPES = ("events",)

_CREATE_SITE = "select ledger.create_site($1, $2)"
_CREATE_ADMIN_LOG = "select ledger.create_admin_log($1)"
_CREATE_API_KEY = "select ledger.create_api_key($1, $2, $3, $4, $5)"
_REVOKE_API_KEY = "select ledger.revoke_api_key($1)"
_SITE_OF_API_KEY = """
select s.site from ledger.api_key k join ledger.site s using (site_id) where k.key_hash = $1 and k.revoked_at is null
"""
_ATTEMPTS = 5

RootKey = Callable[[str], SigningKey]


class SiteCredentials(NamedTuple):
    """What a site's users need: the log's identity, and two API keys (told once, stored hashed); and what its auditors
    need beside: the identity of its administrative log."""

    site: str
    log_id: str
    log_vkey: str
    publishable: str
    secret: str
    admin_log_id: str = ""
    admin_log_vkey: str = ""


async def create_site(
    settings: config.Settings,
    document: bytes,
    root: RootKey | None = None,
    uploads: Sequence[tuple[str, bytes]] = (),
    who: Who | None = None,
) -> SiteCredentials:
    """Found the site of a site document (YAML or JSON) with its administrative log, and publish it; new API keys each
    time it is called.

    `root` gives the root key of an origin, where it is not to be made among the other key files; `uploads` are type and
    bytes of what the document names; `who` founds it (by default the user of the operating system).
    """
    parsed = parse_site_document(document)
    check_uploads(parsed, uploads)  # before the site is founded, for a log is not taken back
    origin = f"{settings.origin_prefix}/{parsed.site}"
    _check_names(parsed.site, origin)
    pool = await open_pool(settings.database_url, size=2)
    try:
        site_id: int | None = await pool.fetchval(_CREATE_SITE, parsed.site, origin)
        if site_id is None:
            raise ConfigInvalid(f"the site {parsed.site} or the origin {origin} exists already with another name")
        reads = Reads(pool)
        row = SiteRow(site_id, parsed.site, origin)
        await _begin(reads, settings, row, root)
        admin_row = SiteRow(
            await pool.fetchval(_CREATE_ADMIN_LOG, site_id), admin_log_of(row.site), admin_log_of(origin)
        )
        await _begin(reads, settings, admin_row, root)
        await _both(first_checkpoint(settings, pool, row), first_checkpoint(settings, pool, admin_row))
        sites = SiteRegistry(reads, pool, settings)
        try:
            site = await sites.get(parsed.site)
            admin_log = await sites.admin_log(parsed.site)
            for log in (site, admin_log):
                if log.sequencer is None:
                    raise _other_keys(settings, log.site)
            administration = Administration(sites, reads)
            who = who or Who(actor_here(), "operator")
            acting = administration.acting(parsed.site, who)
            added = who.act("site.added", {"logId": site.log_id.hex()})
            await administration.record(parsed.site, added, act_id=act_id_of(admin_log.log_id.hex(), added.act))
            ensure_receipt_key(settings, origin)
            service = Service(sites, reads)
            for media_type, body in (*shipped_documents(named_documents(parsed)), *uploads):
                await service.publishing.upload(media_type, body, acting)
            await service.publish(site, document, acting)
            publishable, secret = await asyncio.gather(
                create_api_key(pool, site_id, "publishable", PUBLISHABLE_SCOPES, "made with the site", acting),
                create_api_key(pool, site_id, "secret", SECRET_SCOPES, "made with the site", acting),
            )
        finally:
            await sites.stop()
        return SiteCredentials(
            parsed.site,
            site.log_id.hex(),
            site.log_vkey,
            publishable,
            secret,
            admin_log.log_id.hex(),
            admin_log.log_vkey,
        )
    finally:
        await pool.close()


def _check_names(site: str, origin: str) -> None:
    """That site and origin may be a log's, and those of its administrative log too."""
    if is_admin_log(site):
        raise ConfigInvalid(f"{site} would be an administrative log, by its name: give the site another one")
    try:
        check_site(site)
        check_site(admin_log_of(site))
        check_origin(admin_log_of(origin))
    except Malformed as error:
        raise ConfigInvalid(str(error)) from error


async def _begin(reads: Reads, settings: config.Settings, row: SiteRow, root: RootKey | None) -> None:
    """The genesis entry of a log, or find it there with a key that lies here: else the rest is not ours to do."""
    if await reads.genesis(row.site_id) is None:  # else no keys are made: those of the log may be elsewhere
        await _write_genesis(reads.pool, settings, row.site_id, row.origin, root)
    here = {key_hash(key.public) for key in keys_here(settings, row.site, "ingest").keys.values()}
    if here.isdisjoint(await reads.active_signers(row.site_id)):
        raise _other_keys(settings, row.site)


def _other_keys(settings: config.Settings, site: str) -> ConfigInvalid:
    return ConfigInvalid(
        f"{site} was founded with other keys than those in {site_directory(settings, site)}: "
        "put the key files back there, or run this where they are"
    )


async def _both(*works: Coroutine[Any, Any, None]) -> None:
    """At once; what went wrong is raised when both have ended, and tells of both where both are to be waited for."""
    errors = [error for error in await asyncio.gather(*works, return_exceptions=True) if error is not None]
    if len(errors) > 1 and all(isinstance(error, Unavailable) for error in errors):
        raise Unavailable("not-checkpointed", "\n".join(map(str, errors)))
    if errors:
        raise errors[0]


def shipped_documents(digests: Collection[str]) -> list[tuple[str, bytes]]:
    """Type and bytes of those documents (by SHA-256 in hex) that come with the program: the example sites' notices."""
    shipped = (each.read_bytes() for each in files("ledger").joinpath("sites", "notices").iterdir())
    return [(media_type_of(body), body) for body in shipped if sha256(body).hexdigest() in digests]


async def create_api_key(
    pool: asyncpg.Pool,
    site_id: int,
    key_class: str,
    scopes: tuple[str, ...],
    label: str,
    acting: Acting | None = None,
) -> str:
    """A new key; only its hash is stored, so this is the one time it is told."""
    key = new_api_key(key_class)
    digest = api_key_hash(key)
    if acting is not None:
        told = {"label": label} if label else {}
        await acting(
            "key.created", {"keyId": api_key_id(digest), "class": key_class, "scopes": " ".join(scopes), **told}
        )
    await pool.execute(_CREATE_API_KEY, digest, site_id, key_class, list(scopes), label)
    return key


async def site_of_api_key(pool: asyncpg.Pool, key: str) -> str | None:
    """The site of a living key; None if there is no such key."""
    site: str | None = await pool.fetchval(_SITE_OF_API_KEY, api_key_hash(key))
    return site


async def revoke_api_key(pool: asyncpg.Pool, key: str, acting: Acting | None = None) -> bool:
    """False if there is no such living key. Servers notice within a few seconds."""
    digest = api_key_hash(key)
    if acting is not None:
        await acting("key.revoked", {"keyId": api_key_id(digest)})
    revoked: bool = await pool.fetchval(_REVOKE_API_KEY, digest)
    return revoked


async def _write_genesis(
    pool: asyncpg.Pool, settings: config.Settings, site_id: int, origin: str, root_key: RootKey | None
) -> None:
    """Append entry 0 and make the site's data keys, or find it there with these very keys."""
    root = founding_key(settings, origin, "root") if root_key is None else root_key(origin)
    ingest = founding_key(settings, origin, "ingest")
    log_key = founding_key(settings, origin, "log")
    public = keys.encode_genesis(VerifierKey(origin, TYPE_ED25519, log_key.public), ingest.public, root.public)
    try:
        keys.decode_genesis(public, origin)  # unfit keys are refused before they are in the log for ever
    except KeyRefused as error:
        raise ConfigInvalid(f"the key files of {origin} cannot be used: {error}") from error
    signature = root.sign(core_bytes(origin_hash(origin), Kind.GENESIS, ZEROS, public))
    draft = ControlDraft(Kind.GENESIS, ZEROS, key_hash(root.public), signature, public)
    for attempt in range(_ATTEMPTS):
        try:
            async with pool.acquire() as connection:
                ms = await now_ms(connection)
                async with connection.transaction():  # a log without keys to seal its rows is none
                    timeout = config.APPEND_TIMEOUT_SECONDS
                    genesis, _ = await append_one(connection, site_id, ms, Head(0, b""), draft, timeout)
                    if genesis.entry is not None:
                        await make_first_keys(connection, site_id, leaf_hash(genesis.entry), *settings.masters)
            return
        except Exception as error:
            if sql.sqlstate(error) == sql.LOG_EXISTS:
                return  # somebody founded it at this moment: loading the site tells whether with these keys
            if not sql.is_transient(error) or attempt == _ATTEMPTS - 1:
                raise
            await asyncio.sleep(config.SETTLE_BACKOFF_SECONDS[attempt])
