"""One key takes over from another: introduce the new one, wait until it is in use, retire the old one.

Between the first step and the last both keys count, so nothing stops. A rotation that was cut off, or is not followed
by a server or a witness, leaves both active, and goes on when it is asked for again.
"""

from __future__ import annotations

from collections.abc import Callable

import aiohttp
import click

from ledger import config
from ledger.config import Settings
from ledger.core import keys
from ledger.core.ed25519 import SigningKey
from ledger.core.errors import ConfigInvalid, LedgerError, Malformed, WitnessAhead
from ledger.core.key_history import KeyHistory, KeyTerm
from ledger.core.note import TYPE_ED25519, Checkpoint, VerifierKey, parse_checkpoint
from ledger.core.quorum import TrustPolicy, WitnessEntry, parse_policy
from ledger.keys import files as key_files
from ledger.keys.operations import LogKeys, NotYet
from ledger.keys.sealed import key_id
from ledger.log_tree import LogTree
from ledger.store.log import newest_checkpoint
from ledger.witness.client import WitnessClient

Confirm = Callable[[str], bool]


async def rotate(settings: Settings, log: LogKeys, role: str, root: SigningKey, confirm: Confirm) -> None:
    """The whole of it, telling each step. `NotYet` where it stops with both keys active; `confirm` may stop it too."""
    history = await log.history()
    new = _begun(settings, history, role)
    if log.acting is not None:
        await log.acting("key.rotated", {"role": role, "log": log.site})
    if new is not None:
        click.echo(f"going on with the rotation to the key {_id(history, new)}, introduced as entry {new.since}")
    else:
        key = _next_key(settings, history, role)
        done = await log.introduce(root, introduction(history, role, key))
        history = await log.history()
        new = next(term for term in history.terms if term.public == key.public)
        click.echo(f"introduced the {role} key {_id(history, new)} as entry {done.seq}")
    if role == "ingest":
        click.echo("waiting for the servers to use it …", err=True)
        for old in _others(history, new):
            await log.wait_until_unused(old, config.KEYS_FOLLOW_TIMEOUT_SECONDS)
        click.echo("every server that records signs with it")
    else:
        click.echo("waiting for a checkpoint that it signed …", err=True)
        cosigned = witness_policy(settings) is not None
        row = await log.wait_until_signed(new, config.KEYS_FOLLOW_TIMEOUT_SECONDS, cosigned=cosigned)
        click.echo(f"both keys signed the checkpoint of size {row.size}")
        tell_auditors(history.vkey(new))
    for old in _others(history, new):
        old_id = _id(history, old)
        if not confirm(f"Retire the {role} key {old_id} of {log.site} for good?"):
            click.echo(f"both keys count until: consent-ledger key retire {log.site} {old_id}")
            continue
        if role == "log":
            await check_replaced(settings, log, old)
        done = await log.retire(root, old)
        click.echo(f"retired the {role} key {old_id} as entry {done.seq}")


async def check_replaced(settings: Settings, log: LogKeys, old: KeyTerm) -> None:
    """`NotYet` unless another key does everywhere what this one did."""
    if old.role == "ingest":
        await log.wait_until_unused(old, 0)
        return
    history = await log.history()
    others = [term for term in history.active("log") if term.public != old.public]
    if not others:
        raise NotYet(f"it is the only active log key of {log.site}: `consent-ledger key rotate {log.site} log`")
    policy = witness_policy(settings)
    await log.wait_until_signed(others[-1], config.KEYS_FOLLOW_SECONDS, cosigned=policy is not None)
    if policy is not None:
        await _check_witnesses(log, policy, history.vkey(others[-1]))


def introduction(history: KeyHistory, role: str, key: SigningKey) -> bytes:
    """The public part of the entry that introduces a key whose file is here."""
    if role == "ingest":
        return keys.introduce_ingest(history.log_id, key)
    return keys.introduce_log(VerifierKey(history.origin, TYPE_ED25519, key.public))


def tell_auditors(vkey: VerifierKey) -> None:
    """What everybody outside has to know before the old log key is retired."""
    click.echo(f"log vkey      {vkey}")
    click.echo(
        "Publish it where the old one stands, beside it, and give it to every witness. Who knows only the old one "
        "follows with `verify --old CHECKPOINT`, from a checkpoint that the old key signed.",
        err=True,
    )


def witness_policy(settings: Settings) -> TrustPolicy | None:
    """The witnesses of this installation; None where it asks for none."""
    if settings.witness_policy is None:
        return None
    try:
        policy = parse_policy(settings.witness_policy.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, Malformed) as error:
        raise ConfigInvalid(f"the witness policy {settings.witness_policy} cannot be used: {error}") from error
    return policy if policy.witnesses and not policy.satisfied(()) else None


async def _check_witnesses(log: LogKeys, policy: TrustPolicy, vkey: VerifierKey) -> None:
    """Ask each witness to cosign a checkpoint that only the new key signed: so it shows whether it knows that key."""
    knowing: list[VerifierKey] = []
    reasons: list[str] = []
    async with aiohttp.ClientSession() as session:
        for witness in policy.witnesses:
            try:
                await _ask_witness(log, WitnessClient(session, witness), vkey)
                knowing.append(witness.vkey)
            except LedgerError as error:
                reasons.append(f"{_shown(witness)}: {error}")
    if not policy.satisfied(knowing):
        raise NotYet(
            f"the witnesses do not take checkpoints that only the new log key signed; give them its vkey {vkey} first "
            f"({'; '.join(reasons)})"
        )


async def _ask_witness(log: LogKeys, client: WitnessClient, vkey: VerifierKey) -> None:
    tree = LogTree(log.pool, log.site_id)
    for attempt in range(config.WITNESS_CATCH_UP_ATTEMPTS):
        row = await newest_checkpoint(log.pool, log.site_id)
        if row is None:
            raise NotYet("there is no checkpoint yet")
        try:
            await client.cosign(_signed_by_one(parse_checkpoint(row.note), vkey), tree.consistency)
            return
        except WitnessAhead:  # the checkpointer was there with a newer one meanwhile
            if attempt == config.WITNESS_CATCH_UP_ATTEMPTS - 1:
                raise


def _signed_by_one(checkpoint: Checkpoint, vkey: VerifierKey) -> Checkpoint:
    lines = (line for line in checkpoint.signatures if (line.name, line.key_id) == (vkey.name, vkey.key_id))
    return checkpoint._replace(signatures=tuple(lines))


def _begun(settings: Settings, history: KeyHistory, role: str) -> KeyTerm | None:
    """The key of a rotation that was begun here and not finished."""
    active = history.active(role)
    here = {key.public for key in key_files.keys_here(settings, _site(history), role).keys.values()}
    return active[-1] if len(active) > 1 and active[-1].public in here else None


def _next_key(settings: Settings, history: KeyHistory, role: str) -> SigningKey:
    """The one key here that the log does not know, else a new one."""
    known = {term.public for term in history.terms}
    here = key_files.keys_here(settings, _site(history), role).keys
    waiting = {
        path: key
        for path, key in here.items()
        if key.public not in known and key_files.read_key_file(path).origin == history.origin
    }
    if len(waiting) > 1:
        names = ", ".join(path.name for path in waiting)
        raise ConfigInvalid(f"several keys wait to be introduced: {names}. Move away those that are not meant")
    if waiting:
        return next(iter(waiting.values()))
    path = key_files.new_key(settings, history.origin, role)
    click.echo(f"made {path}")
    return key_files.open_key_file(path, *settings.master_secrets)


def _others(history: KeyHistory, new: KeyTerm) -> list[KeyTerm]:
    return [term for term in history.active(new.role) if term.public != new.public]


def _id(history: KeyHistory, term: KeyTerm) -> str:
    return key_id(history.origin, term.role, term.public)


def _site(history: KeyHistory) -> str:
    return history.origin.rpartition("/")[2]


def _shown(witness: WitnessEntry) -> str:
    return f"{witness.name} ({witness.url})"
