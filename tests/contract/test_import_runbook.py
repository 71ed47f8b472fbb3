"""The runbook of moving here, followed to the letter: its mapping, its commands, its query and its two snippets."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from click.testing import CliRunner, Result
from playwright._impl._driver import compute_driver_executable

from ledger import cli
from ledger.importing.visitor import visitor_of
from tests.conftest import Database
from tests.contract.conftest import SITE, Api
from tests.importing import COOKIEBOT, KEY, STAMP, VISITOR

PAGE = (Path(__file__).resolve().parents[2] / "deploy/runbooks/import.md").read_text(encoding="utf-8")
BLOCKS: list[tuple[str, str]] = re.findall(r"^```(\w+)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
COMMANDS = [line for kind, text in BLOCKS if kind == "text" for line in text.splitlines()]

C15T_TABLES = """
create table "consentPurpose" (id varchar(255) primary key, code text not null);
create table "consentPolicy" (id varchar(255) primary key, type text not null);
create table consent (id varchar(255) primary key, "subjectId" text not null, "policyId" text,
  "purposeIds" json not null, metadata json, "ipAddress" text,
  "givenAt" timestamp not null default now(), "validUntil" timestamp,
  "consentAction" text);
insert into "consentPurpose" values ('pur_1', 'marketing'), ('pur_2', 'measurement');
insert into "consentPolicy" values ('pol_1', 'cookie_banner'), ('pol_2', 'terms_and_conditions');
insert into consent values
  ('cns_1', 'sub_4Nqz8dZk2Y6vWx3uRtAa', 'pol_1', '["pur_2"]', null, '203.0.113.9', '2026-06-01 08:00:00.123'),
  ('cns_2', 'sub_4Nqz8dZk2Y6vWx3uRtBb', 'pol_1', '[]', '{"k": 1}', null, '2026-06-01 09:00'),
  ('cns_3', 'sub_4Nqz8dZk2Y6vWx3uRtBb', 'pol_2', '[]', null, null, '2026-06-01 09:00');
"""


def block(kind: str) -> str:
    (text,) = [text for name, text in BLOCKS if name == kind]
    return text


async def give(line: str, api: Api, **words: str) -> Result:
    program, *arguments = shlex.split(line)
    assert program == "consent-ledger"
    filled = [words.get(argument, argument) for argument in arguments]
    env = {"LEDGER_URL": api.url, "LEDGER_SECRET_KEY": api.scoped["events"]}
    return await asyncio.to_thread(lambda: CliRunner().invoke(cli.main, filled, env=env))


async def test_the_page_is_followed(api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mapping.yaml").write_text(block("yaml"))
    Path("export.csv").write_text(COOKIEBOT.replace("2024-05-0", "2024-04-0"))
    words = {"SITE": SITE, "EXPORT": "export.csv", "FORMAT": "cookiebot"}
    attempt, real, again = COMMANDS
    tried = await give(attempt, api, **words)
    assert (tried.exit_code, "would send           2" in tried.output) == (0, True), tried.output
    done = await give(real, api, **words)
    assert (done.exit_code, "recorded             2" in done.output) == (0, True), done.output
    looked = json.loads((await give(again, api, **words)).stdout)
    assert (looked["recorded"], looked["replayed"]) == (0, 2)
    assert Path("rows.ndjson").read_text() == ""


async def test_the_query_of_c15ts_table_gives_what_is_read(
    api: Api, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    connection = await asyncpg.connect(database.admin_url)
    await connection.execute(C15T_TABLES)
    lines = [row[0] for row in await connection.fetch(block("sql"))]
    await connection.close()
    Path("export.ndjson").write_text("\n".join(lines))
    mapping = block("yaml").replace("Statistics: analytics", "measurement: analytics\n  marketing: marketing")
    Path("mapping.yaml").write_text(mapping)
    result = await give(COMMANDS[1], api, SITE=SITE, EXPORT="export.ndjson", FORMAT="c15t")
    assert result.exit_code == 1, result.output
    assert "recorded             2" in result.output
    assert json.loads(Path("rows.ndjson").read_text())["kind"] == "no-purposes"


@pytest.mark.parametrize("old_id", [STAMP, VISITOR, "Zm9v" * 20])
async def test_the_page_computes_the_visitor_of_an_old_cookie(old_id: str) -> None:
    node, *_ = compute_driver_executable()
    script = block("js") + f"visitorOf({json.dumps(old_id)}, {json.dumps(SITE)}).then(console.log)"
    process = await asyncio.create_subprocess_exec(str(node), "-e", script, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    assert output.decode().strip() == visitor_of(old_id, SITE, None).id


@pytest.mark.parametrize("old_id", ["Jo.Public@Example.org", "4711", "AbC-1"])
def test_the_backend_computes_the_visitor_of_an_address(old_id: str, tmp_path: Path) -> None:
    import base64

    names: dict[str, Any] = {}
    exec(compile(block("python"), "import.md", "exec"), names)
    (tmp_path / "key").write_text(base64.b64encode(KEY).decode() + "\n")
    assert names["visitor_of"](old_id, SITE, tmp_path / "key") == visitor_of(old_id, SITE, KEY).id


def test_every_option_that_the_page_names_exists() -> None:
    from ledger.commands.decide import decide_command
    from ledger.importing.command import FORMATS, import_command

    known = {option for parameter in (*import_command.params, *decide_command.params) for option in parameter.opts}
    assert set(re.findall(r"--[a-z][a-z-]+", PAGE)) <= known
    assert all(f"`{name}`" in PAGE for name in FORMATS)
