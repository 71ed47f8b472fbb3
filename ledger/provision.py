"""Founding a site: its keys, its genesis entry, its first policy and its API keys. Safe to run again after any crash.

The root key is used here and by key commands alone; afterwards it belongs offline.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from hashlib import sha256
from importlib.resources import files
from typing import NamedTuple

import asyncpg

from ledger import config
from ledger.checkpointer.first import first_checkpoint
from ledger.core import keys
from ledger.core.ed25519 import SigningKey
from ledger.core.entry import ZEROS, Kind, core_bytes, key_hash, origin_hash
from ledger.core.errors import ConfigInvalid, KeyRefused, Malformed
from ledger.core.merkle import leaf_hash
from ledger.core.note import TYPE_ED25519, VerifierKey, check_origin, check_site
from ledger.core.notice import media_type_of
from ledger.core.policy import named_documents, parse_site_document
from ledger.keys.files import ensure_receipt_key, founding_key, site_directory
from ledger.policies.authoring import check_uploads
from ledger.secrets import api_key_hash, new_api_key
from ledger.service import Service
from ledger.site import SiteRegistry
from ledger.store import errors as sql
from ledger.store.append import ControlDraft, Head, append_one
from ledger.store.pool import open_pool
from ledger.store.reads import Reads, SiteRow
from ledger.vault import make_first_keys

SECRET_SCOPES = ("events", "check", "audit", "admin")
PUBLISHABLE_SCOPES = ("events",)

_CREATE_SITE = "select ledger.create_site($1, $2)"
_CREATE_API_KEY = "select ledger.create_api_key($1, $2, $3, $4, $5)"
_REVOKE_API_KEY = "select ledger.revoke_api_key($1)"
_NOW_MS = "select (extract(epoch from clock_timestamp()) * 1000)::bigint"
_ATTEMPTS = 5

RootKey = Callable[[str], SigningKey]


class SiteCredentials(NamedTuple):
    """What a site's users need: the log's identity, and two API keys (told once, stored hashed)."""

    site: str
    log_id: str
    log_vkey: str
    publishable: str
    secret: str


async def create_site(
    settings: config.Settings,
    document: bytes,
    root: RootKey | None = None,
    uploads: Sequence[tuple[str, bytes]] = (),
) -> SiteCredentials:
    """Found the site of a site document (YAML or JSON) and publish it; new API keys each time it is called.

    `root` gives the root key of an origin, where it is not to be made among the other key files; `uploads` are type and
    bytes of what the document names.
    """
    parsed = parse_site_document(document)
    check_uploads(parsed, uploads)  # before the site is founded, for a log is not taken back
    origin = f"{settings.origin_prefix}/{parsed.site}"
    try:
        check_site(parsed.site)
        check_origin(origin)
    except Malformed as error:
        raise ConfigInvalid(str(error)) from error
    pool = await open_pool(settings.database_url, size=2)
    try:
        site_id: int | None = await pool.fetchval(_CREATE_SITE, parsed.site, origin)
        if site_id is None:
            raise ConfigInvalid(f"the site {parsed.site} or the origin {origin} exists already with another name")
        reads = Reads(pool)
        if await reads.genesis(site_id) is None:  # else no keys are made: those of the log may be elsewhere
            await _write_genesis(pool, settings, site_id, origin, root)
        await first_checkpoint(settings, pool, SiteRow(site_id, parsed.site, origin))
        sites = SiteRegistry(reads, pool, settings)
        try:
            site = await sites.get(parsed.site)
            if site.sequencer is None:
                raise ConfigInvalid(
                    f"{parsed.site} was founded with other keys than those in {site_directory(settings, parsed.site)}: "
                    "put the key files back there, or run this where they are"
                )
            ensure_receipt_key(settings, origin)
            service = Service(sites, reads)
            for media_type, body in (*shipped_documents(named_documents(parsed)), *uploads):
                await service.publishing.upload(media_type, body)
            await service.publish(site, document)
        finally:
            await sites.stop()
        publishable = await create_api_key(pool, site_id, "publishable", PUBLISHABLE_SCOPES, "made with the site")
        secret = await create_api_key(pool, site_id, "secret", SECRET_SCOPES, "made with the site")
        return SiteCredentials(parsed.site, site.log_id.hex(), site.log_vkey, publishable, secret)
    finally:
        await pool.close()


def shipped_documents(digests: Collection[str]) -> list[tuple[str, bytes]]:
    """Type and bytes of those documents (by SHA-256 in hex) that come with the program: the example sites' notices."""
    shipped = (each.read_bytes() for each in files("ledger").joinpath("sites", "notices").iterdir())
    return [(media_type_of(body), body) for body in shipped if sha256(body).hexdigest() in digests]


async def create_api_key(pool: asyncpg.Pool, site_id: int, key_class: str, scopes: tuple[str, ...], label: str) -> str:
    """A new key; only its hash is stored, so this is the one time it is told."""
    key = new_api_key(key_class)
    await pool.execute(_CREATE_API_KEY, api_key_hash(key), site_id, key_class, list(scopes), label)
    return key


async def revoke_api_key(pool: asyncpg.Pool, key: str) -> bool:
    """False if there is no such living key. Servers notice within a few seconds."""
    revoked: bool = await pool.fetchval(_REVOKE_API_KEY, api_key_hash(key))
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
                now_ms: int = await connection.fetchval(_NOW_MS)
                async with connection.transaction():  # a log without keys to seal its rows is none
                    timeout = config.APPEND_TIMEOUT_SECONDS
                    genesis, _ = await append_one(connection, site_id, now_ms, Head(0, b""), draft, timeout)
                    if genesis.entry is not None:
                        await make_first_keys(connection, site_id, leaf_hash(genesis.entry), settings.masters[0])
            return
        except Exception as error:
            if sql.sqlstate(error) == sql.LOG_EXISTS:
                return  # somebody founded it at this moment: loading the site tells whether with these keys
            if not sql.is_transient(error) or attempt == _ATTEMPTS - 1:
                raise
            await asyncio.sleep(config.SETTLE_BACKOFF_SECONDS[attempt])
