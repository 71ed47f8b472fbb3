"""`consent-ledger key`: what a person does with a site's keys: look at them, make, introduce, retire and rotate them,
and take the root key offline. What it means for the log is keys/operations; what lies in the files is keys/files.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg
import click

from ledger.checkpointer.records import signed_size
from ledger.commands.acting import acting_options
from ledger.commands.locate import DATA, find_admin_url, find_settings
from ledger.config import Settings, load_settings
from ledger.core import keys
from ledger.core.admin_act import site_of
from ledger.core.encoding import decode_base64, encode_base64
from ledger.core.errors import ConfigInvalid, Malformed
from ledger.core.jws import thumbprint
from ledger.core.key_history import KeyHistory, KeyTerm
from ledger.core.note import TYPE_ED25519, VerifierKey, parse_vkey
from ledger.keys import files as key_files
from ledger.keys import rotation
from ledger.keys.operations import LogKeys, introduced_key, role_of
from ledger.keys.root import load_root, take_offline
from ledger.keys.sealed import ROLES, SealedKey, key_id
from ledger.store.pool import open_pool

if TYPE_CHECKING:
    from ledger.administration import Who

SITE = click.argument("site_name", metavar="SITE")
ROLE = click.argument("role", type=click.Choice(["ingest", "log"]))
ANY_ROLE = click.argument("role", type=click.Choice(["ingest", "log", "receipt"]))
ROOT_KEY = click.option(
    "--root-key",
    "root_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Where the root key is, if it is offline; its passphrase is asked for, or read from standard input.",
)
YES = click.option("--yes", is_flag=True, help="Do not ask before a key is retired.")


@click.group("key")
def key_command() -> None:
    """Signing keys of a site: the root key says which ingest and log keys count."""


@key_command.command("list")
@SITE
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@DATA
def key_list(site_name: str, as_json: bool, data: Path) -> None:
    """Every key that the log ever had, and every key file that lies on this machine."""
    settings = find_settings(data)

    async def work(log: LogKeys) -> None:
        rows = _table(settings, await log.history(), site_name)
        if as_json:
            click.echo(json.dumps({"site": site_name, "origin": log.origin, "keys": rows}, indent=1))
            return
        click.echo(f"{'role':7} {'key id':9} {'since':>10} {'until':>10}  state")
        for row in rows:
            since, until = ("" if row[name] is None else str(row[name]) for name in ("since", "until"))
            here = f", {row['file']}" if row["file"] else ""
            click.echo(f"{row['role']:7} {row['keyId']:9} {since:>10} {until:>10}  {row['state']}{here}")

    _run(settings, site_name, work)


@key_command.command("new")
@SITE
@ANY_ROLE
@DATA
def key_new(site_name: str, role: str, data: Path) -> None:
    """Make a key file. The key counts once it is introduced; copy the file to every server before that.

    A receipt key is not introduced: the newest one signs Consent Receipts as soon as a server has its file, and each is
    published at /.well-known/jwks.json until its file is removed.
    """
    settings = find_settings(data)

    async def work(log: LogKeys) -> None:
        path = key_files.new_key(settings, log.origin, role)
        sealed = key_files.read_key_file(path)
        if role == "receipt":
            click.echo(
                f"file          {path}\nkey id        {sealed.key_id}\nJWK kid       {thumbprint(sealed.public)}"
            )
            click.echo(
                f"It signs from now on. Copy it to {settings.keys_dir}/{site_name}/ of every server of this ledger "
                "at once; keep the files of older ones for as long as receipts that they signed are to verify.",
                err=True,
            )
            return
        key = key_files.open_key_file(path, *settings.master_secrets)
        public = rotation.introduction(await log.history(), role, key)
        click.echo(f"file          {path}\nkey id        {sealed.key_id}")
        if role == "log":
            click.echo(f"log vkey      {VerifierKey(log.origin, TYPE_ED25519, key.public)}")
        click.echo(f"introduction  {encode_base64(public)}")
        click.echo(
            f"Copy the file to {settings.keys_dir}/{site_name}/ of every server of this ledger (they share the master "
            f"secret that opens it), then: consent-ledger key introduce {site_name} {sealed.key_id}",
            err=True,
        )

    _run(settings, site_name, work)


@key_command.command("introduce")
@SITE
@click.argument("key", metavar="KEY")
@ROOT_KEY
@acting_options
@DATA
def key_introduce(site_name: str, key: str, root_file: Path | None, data: Path, who: Who) -> None:
    """Let a key count from now on. KEY is the id of a key file on this machine, or what `key new` printed elsewhere
    as its introduction.
    """
    settings = find_settings(data)

    async def work(log: LogKeys) -> None:
        history = await log.history()
        public = _find_introduction(settings, history, site_name, key)
        if introduced_key(public) in {
            sealed.public for sealed in _files(settings, site_name).values() if sealed.role == "receipt"
        }:
            raise ConfigInvalid("it is a receipt key, and no key has two roles: make another with `key new`")
        done = await log.introduce(load_root(settings, log.origin, root_file), public)
        click.echo(f"introduced{' before' if done.already else ''} as entry {done.seq}")
        if role_of(public) == "log":
            rotation.tell_auditors(parse_vkey(public[1:].decode("ascii"), TYPE_ED25519))

    _run(settings, site_name, work, who)


@key_command.command("retire")
@SITE
@click.argument("key", metavar="KEY_ID")
@ROOT_KEY
@YES
@click.option("--force", is_flag=True, help="At once, whatever still uses it: for a key in wrong hands.")
@acting_options
@DATA
def key_retire(site_name: str, key: str, root_file: Path | None, yes: bool, force: bool, data: Path, who: Who) -> None:
    """Let a key count no more, for good. Refuses while something still needs it, unless told to --force."""
    settings = find_settings(data)

    async def work(log: LogKeys) -> None:
        term = _find_term(await log.history(), key)
        root = load_root(settings, log.origin, root_file)
        if not force and term.active:
            click.echo("looking whether something still needs it …", err=True)
            await rotation.check_replaced(settings, log, term)
        if not yes and not click.confirm(f"Retire the {term.role} key {key} of {site_name} for good?", err=True):
            raise ConfigInvalid("nothing was changed")
        done = await log.retire(root, term)
        click.echo(f"retired{' before' if done.already else ''} as entry {done.seq}")

    _run(settings, site_name, work, who)


@key_command.command("rotate-master")
@acting_options
@DATA
def key_rotate_master(data: Path, who: Who) -> None:
    """Replace the master secret: wrap every data key, and seal every key file of this machine, under the next one.

    Stored rows stay as they are. The next secret is LEDGER_NEXT_MASTER_SECRET, which every process has to know before;
    afterwards it becomes LEDGER_MASTER_SECRET, and LEDGER_MASTER_KEY_VERSION one more. Of an `up` the next secret is
    made here, and taken into use when it starts next. Whatever ends this, run it again.
    """
    from ledger.embedded.installation import DataDirectory  # noqa: PLC0415 - commands start fast
    from ledger.keys.master import next_master, rotate_master  # noqa: PLC0415

    if not os.environ.get("LEDGER_DATABASE_URL"):
        made = DataDirectory(data).prepare_next_master()
        click.echo(f"the next master secret {'is made' if made else 'was made before'}")
        click.echo("Stop `up` and start it again: it takes it into use before it serves.", err=True)
        return
    settings, admin_url = load_settings(), find_admin_url(data)
    next_master(settings)
    done = asyncio.run(rotate_master(settings, admin_url, who))
    click.echo(f"{done.data_keys} data keys and {len(done.key_files)} key files are under version {done.version} now")
    click.echo(
        f"Run this on every other machine that has key files. Then set LEDGER_MASTER_SECRET to the next secret and "
        f"LEDGER_MASTER_KEY_VERSION to {done.version}, take LEDGER_NEXT_MASTER_SECRET away, and restart every process.",
        err=True,
    )


@key_command.command("rotate")
@SITE
@ROLE
@ROOT_KEY
@YES
@acting_options
@DATA
def key_rotate(site_name: str, role: str, root_file: Path | None, yes: bool, data: Path, who: Who) -> None:
    """Make a key, introduce it, wait until everything uses it, and retire the one before. Run again, it goes on.

    With servers on several machines use `key new`, copy the file to each, and `key rotate` takes it from there.
    """
    settings = find_settings(data)

    async def work(log: LogKeys) -> None:
        def confirm(question: str) -> bool:
            return yes or (sys.stdin.isatty() and click.confirm(question, err=True))

        await rotation.rotate(settings, log, role, load_root(settings, log.origin, root_file), confirm)

    _run(settings, site_name, work, who)


@key_command.command("check-root")
@SITE
@ROOT_KEY
@DATA
def key_check_root(site_name: str, root_file: Path | None, data: Path) -> None:
    """Open the root key, and see whether it is this log's. Nothing is changed."""
    settings = find_settings(data)

    async def work(log: LogKeys) -> None:
        root = load_root(settings, log.origin, root_file)
        if root.public != (await log.history()).set.root:
            raise ConfigInvalid(f"it opens, but it is not the root key of {site_name}'s log")
        click.echo(f"it opens, and it is the root key of {site_name}")

    _run(settings, site_name, work)


@key_command.command("take-offline")
@SITE
@click.argument("destination", metavar="FILE", type=click.Path(path_type=Path))
@DATA
def key_take_offline(site_name: str, destination: Path, data: Path) -> None:
    """Move the root key of a site into FILE, under a passphrase: onto a medium that lies in a safe.

    The copy is opened again before the original is removed. A directory gets a file named after the site. The
    passphrase is asked for, or read from standard input.
    """
    target = take_offline(find_settings(data), site_name, destination)
    click.echo(f"The root key of {site_name} is in {target} and no more on this machine, backups of it aside.")
    click.echo(
        "Keep the file and the passphrase apart, each in two places. Without them no key of this log can be changed "
        "any more; nothing else needs them. When you do: consent-ledger key … --root-key FILE",
        err=True,
    )


def _run(settings: Settings, site: str, work: Callable[[LogKeys], Awaitable[None]], who: Who | None = None) -> None:
    """`who`: where keys are changed, on record in the site's administrative log; whose own keys are told there too."""
    from ledger.administration import open_administration  # noqa: PLC0415 - `--help` starts fast

    async def main() -> None:
        pool: asyncpg.Pool = await open_pool(settings.database_url, size=3)
        try:
            signed = signed_size(settings.anchors / f"{site}.anchor")
            log = await LogKeys.of_site(pool, site, signed)
            async with open_administration(settings, pool) as administration:
                log.acting = None if who is None else administration.acting(site_of(site), who)
                await work(log)
        finally:
            await pool.close()

    asyncio.run(main())


def _files(settings: Settings, site: str) -> dict[Path, SealedKey]:
    """Every readable key file of a site, with what it says it holds."""
    found: dict[Path, SealedKey] = {}
    for role in ROLES:
        for path in key_files.paths_of(settings, site, role):
            try:
                found[path] = key_files.read_key_file(path)
            except ConfigInvalid as error:
                click.echo(f"warning: {error}", err=True)
    return found


def _table(settings: Settings, history: KeyHistory, site: str) -> list[dict[str, Any]]:
    files = _files(settings, site)
    where = {sealed.public: path for path, sealed in files.items() if sealed.origin == history.origin}
    rows = [
        {
            "role": term.role,
            "keyId": key_id(history.origin, term.role, term.public),
            "public": encode_base64(term.public),
            "vkey": str(history.vkey(term)) if term.role == "log" else None,
            "since": term.since,
            "until": term.until,
            "state": "active" if term.active else "retired",
            "file": where[term.public].name if term.public in where else None,
        }
        for term in history.terms
    ]
    known = {term.public for term in history.terms}
    newest = next(iter(key_files.receipt_keys(settings, site).keys), None)
    for path, sealed in files.items():
        if sealed.public not in known or sealed.origin != history.origin:
            vkey = VerifierKey(sealed.origin, TYPE_ED25519, sealed.public)
            ours = sealed.origin == history.origin
            rows.append(
                {
                    "role": sealed.role,
                    "keyId": sealed.key_id,
                    "public": encode_base64(sealed.public),
                    "vkey": str(vkey) if sealed.role == "log" else None,
                    "since": None,
                    "until": None,
                    "state": _state(sealed, path == newest) if ours else f"of another log, {sealed.origin}",
                    "file": path.name,
                }
            )
    return rows


def _state(sealed: SealedKey, newest: bool) -> str:
    """Of a key that the log does not know."""
    if sealed.role != "receipt":
        return "not introduced"
    return "signs receipts" if newest else "published"


def _find_term(history: KeyHistory, wanted: str) -> KeyTerm:
    found = [
        term
        for term in history.terms
        if term.role != "root" and wanted in (key_id(history.origin, term.role, term.public), str(history.vkey(term)))
    ]
    if len(found) != 1:
        raise ConfigInvalid(
            f"the log has no ingest or log key {wanted}: `consent-ledger key list` shows their ids (a receipt key is "
            "given up by removing its file)"
        )
    return found[0]


def _find_introduction(settings: Settings, history: KeyHistory, site: str, wanted: str) -> bytes:
    """The public part of an introduction, by the id of a key file here or as `key new` printed it."""
    for path, sealed in _files(settings, site).items():
        if sealed.role == "receipt" and wanted in (sealed.key_id, path.name):
            raise ConfigInvalid("a receipt key is never introduced: it has no part in the log")
        if sealed.role != "root" and wanted in (sealed.key_id, path.name):
            if sealed.origin != history.origin:
                raise ConfigInvalid(f"{path} is a key of another log, {sealed.origin}: no key is of two logs")
            key = key_files.open_key_file(path, *settings.master_secrets)
            return rotation.introduction(history, sealed.role, key)
    try:
        public = decode_base64(wanted)
    except Malformed:
        public = b""
    if public[:1] not in (bytes((keys.INTRODUCE_INGEST,)), bytes((keys.INTRODUCE_LOG,))):
        raise ConfigInvalid(
            f"no key file with the id {wanted[:20]} lies in {key_files.site_directory(settings, site)}, and it is no "
            "introduction as `consent-ledger key new` prints it"
        )
    return public
