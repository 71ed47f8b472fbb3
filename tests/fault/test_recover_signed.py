"""Recovery beside what was signed: a stream altered where no entry shows it, and losses that cannot be given up."""

from __future__ import annotations

from dataclasses import replace

import asyncpg
import pytest

from ledger.checkpointer.records import Anchor
from ledger.config import Settings
from ledger.core.merkle import leaf_hash, root_of
from ledger.core.note import TYPE_ED25519, Checkpoint, VerifierKey, sign_checkpoint
from tests.conftest import Database
from tests.fault.forged import entry_of, with_entry
from tests.fault.restored import SECRET, Backup, command, contents, publish, size_of, without_content
from tests.fault.streams import Broker, Stored, messages_of, replace_stream, resumed
from tests.fault.writer import Writer
from tests.founding import ORIGIN, SITE, Founded

pytestmark = pytest.mark.usefixtures("quick_relay")


@pytest.fixture
def settings(settings: Settings, broker: Broker) -> Settings:
    return replace(settings, nats_url=broker.url, master_secret=SECRET)


async def anchored(settings: Settings, database: Database, founded: Founded) -> None:
    """The log as it is now was signed, and the anchor knows it."""
    vkey = VerifierKey(ORIGIN, TYPE_ED25519, founded.log.public)
    rows = sorted((seq, entry) for _, seq, entry in (await contents(database))["entry"])  # type: ignore[misc]
    leaves = [leaf_hash(entry) for _, entry in rows]  # type: ignore[arg-type]
    note = sign_checkpoint(Checkpoint(ORIGIN, len(leaves), root_of(leaves)), vkey, founded.log)
    Anchor(settings.anchors / f"{SITE}.anchor").write(note.encode(), None, {})


def in_another_order(messages: dict[int, Stored], first: int) -> dict[int, Stored]:
    """Two entries exchanged, and all behind them chained anew: each is signed by who may sign it."""
    forged = messages | {first: messages[first + 1], first + 1: messages[first]}
    prev = leaf_hash(entry_of(messages[first - 1]))
    for seq in range(first, max(messages) + 1):
        forged[seq] = with_entry(forged[seq], seq=seq, prev=prev)
        prev = leaf_hash(entry_of(forged[seq]))
    return forged


async def test_a_stream_that_was_reordered_is_refused_by_the_checkpoint_and_nothing_is_appended(
    pool: asyncpg.Pool,
    founded: Founded,
    writer: Writer,
    broker: Broker,
    database: Database,
    backup: Backup,
    settings: Settings,
) -> None:
    await writer.events(10)
    await backup.take()
    await writer.events(10)
    await publish(pool, broker, writer)
    await anchored(settings, database, founded)
    before, messages = without_content(await contents(database)), await messages_of(broker)
    await backup.put_back()

    await replace_stream(broker, in_another_order(messages, 15))
    refused = await command(settings, database, SITE, "--from-stream")
    assert (refused.exit_code, "rule 4 at entry 20" in refused.output, await size_of(database)) == (1, True, 11)
    await replace_stream(broker, messages)
    done = await command(settings, database, SITE, "--from-stream")
    assert (done.exit_code, without_content(await contents(database))) == (0, before), done.output


@pytest.mark.parametrize("appended", [0, 15])
async def test_what_a_checkpoint_covers_cannot_be_given_up_however_long_the_older_copy_grew(
    pool: asyncpg.Pool,
    founded: Founded,
    writer: Writer,
    broker: Broker,
    database: Database,
    backup: Backup,
    settings: Settings,
    appended: int,
) -> None:
    await writer.events(10)
    await backup.take()
    await writer.events(10)
    await anchored(settings, database, founded)
    await backup.put_back()
    if appended:
        await (await resumed(pool, founded, database)).events(appended)
    held = await command(settings, database, SITE, "--accept-loss", answer=f"{SITE}\n")
    assert (held.exit_code, "another prefix" in held.output) == (2, True), held.output
    assert ("rule 4 at entry 20" in held.output) == bool(appended), held.output
