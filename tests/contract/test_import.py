"""An import against a real server: stored once, marked for ever, and worth what its own time makes it worth."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import os
import secrets
import signal
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from ledger import cli
from ledger.core.encoding import encode_time
from ledger.credentials import Credentials, SiteKeys, write_credentials
from tests.contract.conftest import SITE, Api, Client
from tests.contract.conftest import visitor as new_visitor
from tests.harness import now_ms, until
from tests.importing import (
    C15T,
    C15T_MAPPING,
    COOKIEBOT,
    COOKIEBOT_MAPPING,
    DIDOMI,
    DIDOMI_MAPPING,
    ONETRUST_CSV,
    ONETRUST_MAPPING,
)

DAY_MS = 24 * 3600 * 1000

Import = Callable[..., Awaitable[Result]]


@pytest.fixture
def run_import(api: Api, tmp_path: Path) -> Import:
    """`consent-ledger import SITE FILE …` with what the file holds, and perhaps a mapping."""

    async def run(data: str | bytes, *options: str, mapping: str | None = None, **environ: str) -> Result:
        file = tmp_path / f"export-{secrets.token_hex(4)}"
        file.write_bytes(data.encode() if isinstance(data, str) else data)
        if mapping is not None:
            file.with_suffix(".yaml").write_text(mapping)
            options = (*options, "--mapping", str(file.with_suffix(".yaml")))
        env = {"LEDGER_SECRET_KEY": api.scoped["events"], "LEDGER_URL": api.url, **environ}
        words = ["import", SITE, str(file), *options]
        return await asyncio.to_thread(lambda: CliRunner().invoke(cli.main, words, env=env))

    return run


def summary(result: Result) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(result.stdout)
    return told


async def history(client: Client, visitor: str) -> list[dict[str, Any]]:
    answer = await client.call("GET", "history", key=client.api.secret, headers={"Consent-Visitor": visitor})
    events: list[dict[str, Any]] = answer.json["events"]
    return events


async def decided(client: Client, visitor: str, purpose: str = "analytics", **query: str) -> dict[str, Any]:
    path = "consent?" + "&".join(f"{name}={value}" for name, value in query.items())
    answer = await client.call("GET", path, key=client.api.secret, headers={"Consent-Visitor": visitor})
    assert answer.status == 200, answer.body
    decision: dict[str, Any] = answer.json["decisions"][purpose]
    return decision


def rows_of(*choices: tuple[str, int, str]) -> str:
    lines = [f"{visitor},{encode_time(ms)},{answer}" for visitor, ms, answer in choices]
    return "\n".join(["visitor,date,analytics", *lines])


# --- what becomes of an import ----------------------------------------------------------------------------------------


async def test_every_row_is_stored_once_however_often_it_is_imported(run_import: Import, client: Client) -> None:
    visitors = [new_visitor() for _ in range(1_200)]
    table = rows_of(*((v, now_ms() - n * 1000 - 10_000, "01"[n % 2]) for n, v in enumerate(visitors)))
    options = ("--format", "csv", "--policy-version", "1.0", "--json")
    first = await run_import(table, *options)
    assert first.exit_code == 0, first.output
    assert summary(first) | {"visitors": {}} == {
        "rows": 1_200, "ready": 1_200, "recorded": 1_200, "replayed": 0, "leftOut": {}, "refused": {},
        "denialsKept": 0, "removed": 0, "visitors": {}, "overdue": 0, "overduePurposes": {},
    }  # fmt: skip
    again = await run_import(gzip.compress(table.encode("utf-16")), *options)
    assert (summary(again)["recorded"], summary(again)["replayed"]) == (0, 1_200)
    (item,) = await history(client, visitors[0])
    assert item["event"]["action"] == "import"
    assert item["event"]["authentication"] == "secret"
    assert item["event"]["original"] == table.splitlines()[1]


async def test_the_row_is_in_the_receipt_as_evidence(run_import: Import, client: Client) -> None:
    visitor = new_visitor()
    result = await run_import(rows_of((visitor, now_ms() - DAY_MS, "1")), "--format", "csv", "--policy-version", "1.0")
    assert result.exit_code == 0, result.output
    (item,) = await history(client, visitor)
    receipt = await client.call("GET", f"receipts/{item['event']['id']}", key=client.api.secret)
    payload = json.loads(base64.b64decode(receipt.json["payload"]))
    assert payload["original"].startswith(f"{visitor},")
    assert payload["action"] == "import"


async def test_a_grant_counts_at_its_own_time_and_lapses_by_the_policy(run_import: Import, client: Client) -> None:
    old, young = new_visitor(), new_visitor()
    table = rows_of((old, now_ms() - 730 * DAY_MS, "1"), (young, now_ms() - 30 * DAY_MS, "1"))
    assert (await run_import(table, "--format", "csv", "--policy-version", "1.0")).exit_code == 0
    lapsed, granted = await decided(client, old), await decided(client, young)
    assert (lapsed["decision"], lapsed["reason"], lapsed["ask"]) == ("denied", "expired", True)
    assert (granted["decision"], granted["reason"]) == ("granted", "granted")
    assert granted["decidedAt"] == (await history(client, young))[0]["event"]["occurredAt"]


async def test_an_older_denial_does_not_beat_a_live_grant(run_import: Import, client: Client) -> None:
    visitor = new_visitor()
    live = {"visitor": visitor, "type": "consent.given", "decisions": {"analytics": "granted"}, "action": "customize"}
    assert (await client.post({**live, "policyVersion": "1.0"})).status == 201
    table = rows_of((visitor, now_ms() - DAY_MS, "0"))
    assert (await run_import(table, "--format", "csv")).exit_code == 0
    assert (await decided(client, visitor))["decision"] == "granted"


async def test_a_live_withdrawal_beats_an_imported_grant_whatever_time_it_claims(
    run_import: Import, client: Client
) -> None:
    visitor = new_visitor()
    live = {"visitor": visitor, "type": "consent.withdrawn", "decisions": {"analytics": "denied"}, "action": "withdraw"}
    assert (await client.post(live)).status == 201
    table = rows_of((visitor, now_ms() - DAY_MS, "1"))
    assert (await run_import(table, "--format", "csv", "--policy-version", "1.0")).exit_code == 0
    assert (await decided(client, visitor))["decision"] == "denied"
    future = rows_of((visitor, now_ms() + 30 * DAY_MS, "1"))
    result = await run_import(future, "--format", "csv", "--policy-version", "1.0", "--json")
    assert (result.exit_code, summary(result)["refused"]) == (1, {"grant-in-the-future": 1})


@pytest.mark.parametrize(
    ("form", "data", "mapping", "recorded", "refused"),
    [
        ("cookiebot", COOKIEBOT, COOKIEBOT_MAPPING, 2, 0),
        ("onetrust", ONETRUST_CSV, ONETRUST_MAPPING, 2, 1),
        ("didomi", gzip.compress(DIDOMI.encode()), DIDOMI_MAPPING, 2, 0),
        ("c15t", json.dumps(C15T), C15T_MAPPING, 3, 1),
    ],
    ids=["cookiebot", "onetrust", "didomi", "c15t"],
)
async def test_every_format_is_taken_by_the_server(
    run_import: Import, tmp_path: Path, form: str, data: str | bytes, mapping: str, recorded: int, refused: int
) -> None:
    options = ("--format", form, "--visitor-key", str(tmp_path / "visitors.key"), "--json")
    result = await run_import(data, *options, mapping=mapping)
    told = summary(result)
    assert (told["recorded"] + told["replayed"], sum(told["refused"].values())) == (recorded, refused), result.output
    assert result.exit_code == (1 if refused else 0)
    assert (tmp_path / "visitors.key").stat().st_mode & 0o777 == 0o600


# --- what stops it ----------------------------------------------------------------------------------------------------


async def test_nothing_is_sent_while_something_is_missing(run_import: Import, client: Client) -> None:
    visitor = new_visitor()
    good = f"{visitor},2024-05-01T00:00:00Z,1"
    cases = [
        (f"visitor,date,Statistics\n{good}", "cookiebot", "--policy-version 1.0", '"Statistics"'),
        (f"visitor,date,analytics\n{good}", "csv", "", "--policy-version"),
        (f"visitor,date,analytics\n{good}\n{visitor},2024-05-02,1", "csv", "--policy-version 1.0", "--time-zone"),
        (f"visitor,date,analytics\n{good}\njo@example.org,2024-05-02T00:00:00Z,1", "csv", "--policy-version 1.0",
         "--visitor-key"),
        (f"visitor,date,analytics\n{good}", "csv", "--policy-version 9.9", "has not published"),
        (f"visitor,analytics\n{good}", "csv", "--policy-version 1.0", "no column for the time"),
        ('{"a": 1}', "csv", "--policy-version 1.0", "JSON"),
        ("visitor,date,analytics", "csv", "--encoding base64", "no text encoding"),
    ]  # fmt: skip
    for data, form, options, expected in cases:
        table = data.replace("visitor,date,Stat", "Consent ID,Date,Stat")
        result = await run_import(table, "--format", form, *options.split())
        assert result.exit_code == 2, result.output
        assert expected in result.output
        assert "jo@example.org" not in result.output
    assert await history(client, visitor) == []


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"LEDGER_SECRET_KEY": "sk_unknown"}, "401"),
        ({"LEDGER_SECRET_KEY": ""}, "LEDGER_SECRET_KEY"),
        ({"LEDGER_URL": "http://127.0.0.1:9"}, "does not answer"),
    ],
)
async def test_a_server_that_does_not_take_it_is_told_of(
    run_import: Import, environ: dict[str, str], expected: str
) -> None:
    table = rows_of((new_visitor(), now_ms() - DAY_MS, "1"))
    result = await run_import(table, "--format", "csv", "--policy-version", "1.0", **environ)
    assert (result.exit_code, expected in result.output) == (2, True), result.output


async def test_a_dry_run_sends_nothing_and_tells_everything(run_import: Import, client: Client, tmp_path: Path) -> None:
    visitor = new_visitor()
    table = rows_of((visitor, now_ms() - DAY_MS, "1"), (visitor, now_ms(), "perhaps"), (visitor, now_ms(), ""))
    report, key = tmp_path / "report.ndjson", tmp_path / "key"
    result = await run_import(
        table, "--format", "csv", "--policy-version", "1.0", "--dry-run", "--report", str(report),
        "--visitor-key", str(key),
    )  # fmt: skip
    assert result.exit_code == 1
    assert "would send           1" in result.output
    assert await history(client, visitor) == []
    assert not key.exists()
    assert [json.loads(line) for line in report.read_text().splitlines()] == [
        {"row": 3, "outcome": "refused", "kind": "unknown-answer",
         "detail": "The row answers with a word that is none of the known ones."},
        {"row": 4, "outcome": "left-out", "kind": "no-choice"},
    ]  # fmt: skip


async def test_the_report_of_refused_rows_holds_nothing_of_them(run_import: Import, tmp_path: Path) -> None:
    visitor = new_visitor()
    table = (
        "visitor,date,analytics,mail\n"
        f"{visitor},{encode_time(now_ms() + 9 * DAY_MS)},1,jo@example.org\n"
        f"{visitor},never,1,jo@example.org\nshort one,2024-01-01T00:00:00Z,1,\n"
        f'{visitor},2024-01-01T00:00:00Z,1,"open\n'
    )
    report = tmp_path / "report.ndjson"
    options = (
        "--format",
        "csv",
        "--policy-version",
        "1.0",
        "--report",
        str(report),
        "--visitor-key",
        str(tmp_path / "k"),
    )
    result = await run_import(table, *options)
    assert result.exit_code == 1
    lines = [json.loads(line) for line in report.read_text().splitlines()]
    assert {line["row"]: line["kind"] for line in lines} == {2: "grant-in-the-future", 3: "bad-time", 5: "open-quote"}
    for secret in (visitor, "jo@", "never", "short one", "open\n"):
        assert secret not in report.read_text()
        assert secret not in result.output


async def test_another_mapping_does_not_store_a_row_twice(run_import: Import, client: Client) -> None:
    visitor = new_visitor()
    table = rows_of((visitor, now_ms() - DAY_MS, "1"))
    assert (await run_import(table, "--format", "csv", "--policy-version", "1.0")).exit_code == 0
    result = await run_import(
        table, "--format", "csv", "--policy-version", "1.0", "--json", mapping="purposes: {analytics: marketing}"
    )
    assert (result.exit_code, summary(result)["refused"]) == (1, {"id-conflict": 1})
    assert len(await history(client, visitor)) == 1


async def test_only_so_many_rows_are_imported_as_were_asked_for(run_import: Import) -> None:
    table = rows_of(*((new_visitor(), now_ms() - DAY_MS, "1") for _ in range(9)))
    result = await run_import(table, "--format", "csv", "--policy-version", "1.0", "--limit", "4", "--json")
    assert (summary(result)["rows"], summary(result)["recorded"]) == (4, 4)


async def test_a_pipe_is_read_like_a_file(api: Api, client: Client) -> None:
    visitor = new_visitor()
    words = ["import", SITE, "-", "--format", "csv", "--policy-version", "1.0", "--url", api.url]
    env = {"LEDGER_SECRET_KEY": api.scoped["events"]}
    data = rows_of((visitor, now_ms() - DAY_MS, "1")).encode()
    result = await asyncio.to_thread(lambda: CliRunner().invoke(cli.main, words, env=env, input=data))
    assert result.exit_code == 0, result.output
    assert len(await history(client, visitor)) == 1


async def test_the_ledger_is_found_by_its_data_directory(api: Api, client: Client, tmp_path: Path) -> None:
    visitor = new_visitor()
    keys = SiteKeys("", "", api.publishable, api.scoped["events"])
    write_credentials(tmp_path, Credentials(api.url, "", "", {SITE: keys}))
    (tmp_path / "export.csv").write_text(rows_of((visitor, now_ms() - DAY_MS, "1")))
    words = ["import", SITE, str(tmp_path / "export.csv"), "--format", "csv", "--policy-version", "1.0"]
    env = {"LEDGER_URL": "", "LEDGER_SECRET_KEY": ""}
    run = partial(CliRunner().invoke, cli.main, [*words, "--data", str(tmp_path)], env=env)
    result = await asyncio.to_thread(run)
    assert result.exit_code == 0, result.output
    assert len(await history(client, visitor)) == 1


async def test_a_key_file_that_holds_no_key_is_left_as_it_is(run_import: Import, tmp_path: Path) -> None:
    table = rows_of((new_visitor(), now_ms() - DAY_MS, "1"))
    key = tmp_path / "visitors.key"
    for content in ("", "not base64!", "AAAA"):
        key.write_text(content)
        result = await run_import(table, "--format", "csv", "--policy-version", "1.0", "--visitor-key", str(key))
        assert (result.exit_code, "holds no key" in result.output) == (2, True), result.output
        assert key.read_text() == content


async def test_a_publishable_key_imports_nothing(run_import: Import, api: Api, client: Client) -> None:
    visitor = new_visitor()
    table = rows_of((visitor, now_ms() - DAY_MS, "1"))
    result = await run_import(table, "--format", "csv", "--policy-version", "1.0", LEDGER_SECRET_KEY=api.publishable)
    assert result.exit_code == 2
    assert await history(client, visitor) == []


# --- interrupted, and large -------------------------------------------------------------------------------------------


async def start(api: Api, *words: str) -> asyncio.subprocess.Process:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("LEDGER_")}
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "ledger", "import", SITE, *words, "--format", "csv", "--policy-version", "1.0"),
        env={**environ, "LEDGER_URL": api.url, "LEDGER_SECRET_KEY": api.scoped["events"]},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def test_an_interrupted_import_goes_on_with_the_same_command(api: Api, client: Client, tmp_path: Path) -> None:
    visitors = [new_visitor() for _ in range(6_000)]
    file = tmp_path / "export.csv"
    file.write_text(rows_of(*((visitor, now_ms() - DAY_MS, "1") for visitor in visitors)))
    process = await start(api, str(file))

    async def begun() -> bool:
        return bool(await history(client, visitors[0])) or process.returncode is not None

    await until(begun)
    process.send_signal(signal.SIGINT)
    output, errors = await process.communicate()
    assert process.returncode == 2, output
    assert b"interrupted" in errors
    process = await start(api, str(file), "--json")
    output, errors = await process.communicate()
    told = json.loads(output)
    assert (process.returncode, told["recorded"] + told["replayed"]) == (0, 6_000)
    assert told["replayed"] > 0
    assert [len(await history(client, visitor)) for visitor in visitors[:: len(visitors) - 1]] == [1, 1]


@pytest.mark.slow
async def test_a_hundred_times_the_rows_take_no_more_memory(api: Api, tmp_path: Path) -> None:
    program = "import resource, sys; from ledger.cli import main\ntry: main(sys.argv[1:])\n"
    program += "finally: print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)"
    peaks = []
    for count in (500, 50_000):
        file = tmp_path / f"{count}.csv"
        with file.open("w") as out:
            out.write("visitor,date,analytics,url,ip\n")
            for n in range(count):
                out.write(f"{n:032x},2026-01-01T00:00:00Z,{n % 2},https://shop.example.com/{n}?q=1,203.0.113.9\n")
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", program, "import", SITE, str(file), "--format", "csv", "--dry-run", "--json"),
            *("--policy-version", "1.0"),
            env={**os.environ, "LEDGER_URL": api.url, "LEDGER_SECRET_KEY": "sk_none"},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        output, errors = await process.communicate()
        assert json.loads(output)["ready"] == count, errors
        peaks.append(int(errors.split()[-1]))
    assert peaks[1] - peaks[0] < 16 * 1024, f"{peaks} KiB"
