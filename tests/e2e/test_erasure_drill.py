"""The erasure drill: a hundred of a thousand people are erased under load, and then every byte is looked through.

Ids, salts, payloads and the ciphertexts as they were kept in the database are recorded beforehand, and searched for
afterwards in the database's files, the stream's store, logs, metrics, temporary files, anchors, a new backup and a
plain dump; the same search finds them before, and finds the living afterwards. That pages, WAL and statistics hold
nothing rests on `scrub`, which is run here by hand.
"""

from __future__ import annotations

import asyncio
import json
import re
import secrets
import shlex
import subprocess
import uuid
from base64 import b64decode
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import asyncpg
import nats
import pytest
from click.testing import CliRunner

from ledger.backup.dump import find_client
from ledger.cli import main
from ledger.core.entry import Kind, decode, decode_seqs
from ledger.core.stream import names as stream_names
from ledger.credentials import Credentials, read_credentials
from ledger.embedded.installation import DataDirectory
from ledger.provision import SiteCredentials
from ledger.secrets import new_event_id
from tests.bytesearch import Needles, names
from tests.harness import Browser, Load, grant, now_ms, refusal, until
from tests.upped import running_up

SITE = "weco.nexaxt.com"
RUNBOOK = (Path(__file__).resolve().parents[2] / "deploy/runbooks/erasure.md").read_text(encoding="utf-8")
COMMANDS = [
    line for text in re.findall(r"^```text\n(.*?)^```", RUNBOOK, re.MULTILINE | re.DOTALL) for line in text.splitlines()
]
PEOPLE = 1_000
ERASED = 100
WITH_ACCOUNT = 10
"""One of so many has an account, and another one a row that was imported."""
AT_ONCE = 16

pytestmark = pytest.mark.slow


class Person(NamedTuple):
    """A visitor of the drill, with what it said; `own`: every value that is nobody else's, from its first byte on."""

    number: int
    visitor: str
    account: str | None
    events: list[dict[str, Any]]
    own: dict[str, str]


class Stack:
    """An `up` of the test's own, and the commands that are run on it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.data = directory / "data"
        self.credentials: Credentials = read_credentials(self.data)
        keys = self.credentials.sites[SITE]
        self.site = SiteCredentials(SITE, keys.log_id, keys.log_vkey, keys.publishable, keys.secret)

    async def run(self, *command: str, expected: int = 0) -> str:
        """What a command of the ledger prints, run in this process."""
        done = await asyncio.to_thread(CliRunner().invoke, main, [*command, "--data", str(self.data)])
        assert done.exit_code == expected, (command, done.output)
        return done.stdout


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with running_up(temporary=True) as directory:
        yield Stack(directory)


@asynccontextmanager
async def browser_of(stack: Stack) -> AsyncIterator[Browser]:
    async with aiohttp.ClientSession() as session:
        yield Browser(session, stack.credentials.base_url, stack.site)


def own(what: str, number: int) -> str:
    return f"{secrets.token_hex(8)}-drill-{what}-{number:04d}"


def people() -> list[Person]:
    """A thousand visitors with a grant and a denial each, some with accounts and links, some with imported rows."""
    made = []
    for number in range(PEOPLE):
        values = {what: own(what, number) for what in ("visitor", "signal", "account", "mail")}
        visitor, account = values["visitor"], values["account"] if number % WITH_ACCOUNT == 0 else None
        answers = {"preferences": "granted", "analytics": "granted", "marketing": "denied"}
        events = [grant(visitor=visitor, tcString=values["signal"], decisions=answers)]
        if account is not None:
            link = {"id": new_event_id(now_ms()), "type": "account.linked", "visitor": visitor, "account": account}
            events += [link, refusal(visitor=visitor, scope="account", decisions={"preferences": "denied"})]
        elif number % WITH_ACCOUNT == 1:
            row = json.dumps({"mail": values["mail"], "row": number})
            events.append(
                refusal(visitor=visitor, action="import", original=row, occurredAt="2024-05-01T10:00:00.000Z")
            )
        else:
            events.append(refusal(visitor=visitor, type="consent.withdrawn", action="withdraw"))
        made.append(Person(number, visitor, account, events, values))
    return made


async def post_all(persons: Sequence[Person], stack: Stack) -> dict[str, list[int]]:
    """Record what everybody said, in order; the seqs by visitor."""
    lines = [(person.visitor, event) for person in persons for event in person.events]
    headers = {"Authorization": f"Bearer {stack.site.secret}", "Content-Type": "application/x-ndjson"}
    url = f"{stack.credentials.base_url}/v1/sites/{SITE}/events:batch"
    body = b"".join(json.dumps(event).encode() + b"\n" for _, event in lines)
    async with aiohttp.ClientSession() as session, session.post(url, data=body, headers=headers) as response:
        results = [json.loads(line) for line in (await response.read()).splitlines()]
    assert {result["status"] for result in results} == {201}, next(r for r in results if r["status"] != 201)
    seqs: dict[str, list[int]] = {}
    for (visitor, _), result in zip(lines, results, strict=True):
        seqs.setdefault(visitor, []).append(result["receipt"]["seq"])
    return seqs


async def everything_of(browser: Browser, persons: Sequence[Person]) -> dict[str, Any]:
    """The decisions for each of them by visitor, and of each third the history."""
    asked = {"visitors": [person.visitor for person in persons], "purposes": ["preferences", "analytics", "marketing"]}
    decisions = (await browser.call("POST", "check", asked, secret=True)).json["results"]
    limit = asyncio.Semaphore(AT_ONCE)

    async def history(person: Person) -> Any:
        async with limit:
            answer = await browser.call("GET", "history", secret=True, consent_visitor=person.visitor)
        assert answer.status == 200, answer.json
        return answer.json["events"]

    histories = await asyncio.gather(*map(history, persons[::3]))
    return {"decisions": decisions, "histories": histories}


async def salts_of(stack: Stack, seqs: Sequence[int]) -> dict[int, bytes]:
    """As the stream tells its consumers."""
    client = await nats.connect(stack.credentials.nats_url)
    js, stream = client.jetstream(), stream_names(SITE).stream
    messages = await asyncio.gather(*(js.get_msg(stream, seq) for seq in seqs))
    await client.close()
    return {seq: b64decode((message.headers or {})["ce-salt"]) for seq, message in zip(seqs, messages, strict=True)}


async def needles_of(
    stack: Stack, connection: asyncpg.Connection, persons: Sequence[Person], seqs: dict[str, list[int]]
) -> Needles:
    """Whatever is these people's own, as they said it, as it was committed to, and as the database keeps it."""
    needles = Needles()
    salts = await salts_of(stack, [seq for person in persons for seq in seqs[person.visitor]])
    sealed = dict(
        await connection.fetch(
            "select o.seq, o.sealed from ledger.opening o join ledger.site s using (site_id) where s.site = $1", SITE
        )
    )
    for person in persons:
        who = f"visitor {person.number}"
        for what, value in person.own.items():
            needles.add(f"{who}: {what}", value.encode())
        for event, seq in zip(person.events, seqs[person.visitor], strict=True):
            needles.add(f"{who}: event", event["id"][-18:].encode())  # what comes before is mostly the time
            needles.add(f"{who}: salt", salts[seq])
            needles.add(f"{who}: ciphertext", sealed[seq][17:], slices=3)
    return needles


async def erase(browser: Browser, persons: Sequence[Person]) -> None:
    """Order it for each, some by their account first, and wait until everything is done."""
    orders: list[str] = []
    limit = asyncio.Semaphore(AT_ONCE)

    async def order(**subject: str) -> None:
        body = {"id": str(uuid.uuid4()), "reason": "subject_request", "instruction": "drill", **subject}
        async with limit:
            answer = await browser.call("POST", "erasures", body, secret=True)
        assert answer.status == 202, answer.json
        orders.append(body["id"])

    await asyncio.gather(
        *(order(account=person.account) for person in persons[:: 2 * WITH_ACCOUNT] if person.account is not None)
    )
    await asyncio.gather(*(order(visitor=person.visitor) for person in persons))

    async def done() -> bool:
        answer = await browser.call("GET", f"erasures/{orders[0]}", secret=True)
        if answer.json["state"] == "erased":
            orders.pop(0)
        return not orders

    await until(done)


async def size_of(connection: asyncpg.Connection) -> int:
    size: int = await connection.fetchval(
        "select max(e.seq) + 1 from ledger.entry e join ledger.site s using (site_id) where s.site = $1", SITE
    )
    return size


async def published(stack: Stack, size: int) -> None:
    """Wait until the stream holds the log so far."""
    client = await nats.connect(stack.credentials.nats_url)
    js = client.jetstream()

    async def there() -> bool:
        return (await js.stream_info(stream_names(SITE).stream)).state.last_seq >= size - 1

    try:
        await until(there)
    finally:
        await client.close()


async def test_of_a_hundred_erased_no_byte_is_left_and_of_nine_hundred_none_is_missing(
    stack: Stack, tmp_path: Path
) -> None:
    everybody = people()
    gone, living = everybody[:ERASED], everybody[ERASED:]
    admin = await asyncpg.connect(DataDirectory(stack.data).admin_database_url())
    async with browser_of(stack) as browser:
        seqs = await post_all(everybody, stack)
        before = await everything_of(browser, living)
        await published(stack, await size_of(admin))
        secrets_of_gone = await needles_of(stack, admin, gone, seqs)
        secrets_of_living = await needles_of(stack, admin, living[:20], seqs)
        await admin.execute("analyze")
        await admin.execute("checkpoint")
        found = secrets_of_gone.found(tmp_path, stack.data)
        assert sum("ciphertext" in find for find in found) == ERASED, "the search finds what is there"
        assert {"visitor", "signal", "mail", "event", "salt"} <= names(found), "the stream holds them in clear"

        async with Load([stack.credentials.base_url], stack.site, clients=2) as load:
            await load.more(20)
            await erase(browser, gone)
            await load.more(20)
        await published(stack, await size_of(admin))

        async def scrubbed() -> bool:
            done = await asyncio.to_thread(CliRunner().invoke, main, ["scrub", "--json", "--data", str(stack.data)])
            return bool(json.loads(done.stdout)["clean"])

        await until(scrubbed)

        # --- what is told from now on ---------------------------------------------------------------------------------
        kept = tmp_path / "kept"
        kept.mkdir()
        async with aiohttp.ClientSession() as session, session.get(f"{stack.credentials.base_url}/metrics") as response:
            (kept / "metrics").write_bytes(await response.read())
        await stack.run("backup", "--to", str(kept / "backup"))
        dump = [str(find_client("pg_dump", 0)), "--inserts", f"--file={kept / 'dump.sql'}"]
        subprocess.run([*dump, DataDirectory(stack.data).admin_database_url()], check=True)
        await stack.run("export", SITE, str(kept / "bundle"), "--wait", "60")

        assert secrets_of_gone.found(tmp_path, stack.directory, kept) == {}
        there = secrets_of_living.found(tmp_path, stack.directory)
        assert sum("ciphertext" in find for find in there) == 20, "the search goes where the living are"
        assert all(str(stack.data) in path for paths in there.values() for path in paths)
        in_dump = names(secrets_of_living.found(tmp_path, kept / "dump.sql"))
        assert in_dump == {"ciphertext"}, "a dump tells of nobody, not of the living either"

        # --- and nobody else is touched -------------------------------------------------------------------------------
        assert await everything_of(browser, living) == before
    await check_from_outside(stack, kept / "bundle", {seq for person in gone for seq in seqs[person.visitor]})
    await admin.close()


async def check_from_outside(stack: Stack, bundle: Path, erased: set[int]) -> None:
    """A stranger finds the log sound, and of the events exactly those erased that were."""
    pins = ("--log-vkey", stack.site.log_vkey, "--log-id", stack.site.log_id)
    await stack.run("verify", str(bundle), *pins, "--live")
    opened = {json.loads(line)["seq"] for line in (bundle / "payloads.ndjson").read_bytes().splitlines()}
    admin = await asyncpg.connect(DataDirectory(stack.data).admin_database_url())
    rows = await admin.fetch(
        "select e.entry from ledger.entry e join ledger.site s using (site_id) where s.site = $1 order by e.seq", SITE
    )
    await admin.close()
    entries = [decode(row["entry"]) for row in rows]
    named = {seq for entry in entries if entry.kind == Kind.ERASURE for seq in decode_seqs(entry.public)}
    assert named == erased
    assert {entry.seq for entry in entries if entry.kind == Kind.EVENT} - opened == erased


async def test_the_runbook_is_followed(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(stack.directory)
    async with browser_of(stack) as browser:
        for name in ("visitor", "claimant", "disputed"):
            event = grant()
            assert (await browser.post(event)).status == 201
            Path(f"{name}.txt").write_text(event["visitor"])
    Path("account.txt").write_text("customer-4711")
    words = {"SITE": SITE, "SITE.admin-log": f"{SITE}.admin-log", "TICKET": "DSR-2026/117"}
    words["LOG_VKEY"] = stack.site.log_vkey
    orders = iter(("ERASURE", "HELD", "RESTRICTED", "ACCOUNT"))
    said: dict[str, str] = {}
    again: list[str] = []
    for line in COMMANDS:
        program, *command = shlex.split(line)
        assert program == "consent-ledger"
        if "open-held" in command:  # once it is held
            await stack.run("erase", "order", SITE, "--id", words["HELD"], *again, "--wait", "60")
        output = said[" ".join(command[:2])] = await stack.run(*(words.get(word, word) for word in command))
        if command[:2] == ["erase", "order"]:
            (words[next(orders)],) = set(re.findall(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", output))
            if "hold" in command:
                again = [words.get(word, word) for word in command[3:]]
    assert "locked for" in said["scrub"]
    assert "ok      erased bytes in tables: gone within 24 h" in said["doctor"]
    assert "ok      erased bytes in WAL" in said["doctor"]
    assert json.loads(said["erase open-held"].splitlines()[0])["payload"]
    assert "nothing is held" in said["erase release-held"]
    assert next(orders, None) is None
