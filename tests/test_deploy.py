"""The files of deploy/ and the compose file, as far as they can be tried without a Docker engine."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import asyncpg
import click
import pytest
import yaml

from ledger.cli import main
from ledger.config import VARIABLES
from ledger.embedded.binaries import find_nats, find_postgres
from ledger.embedded.ports import free_port
from ledger.embedded.postgres import Postgres
from ledger.store.migrate import migrate
from tests.conftest import admin
from tests.contract.conftest import Api, api  # noqa: F401 - a fixture

TOP = Path(__file__).resolve().parent.parent
DEPLOY = TOP / "deploy"
COMPOSE: dict[str, Any] = yaml.safe_load((TOP / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = ("ledger", "migrate")
REQUIRED = re.compile(r"\$\{[A-Z_]+:\?[^}]*\}")
RUN_SECONDS = 120


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile as (instruction, arguments), continued lines joined."""
    text = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in joined.splitlines())]


def image_environment() -> dict[str, str]:
    pairs = " ".join(rest for name, rest in instructions() if name == "ENV")
    return dict(pair.partition("=")[::2] for pair in shlex.split(pairs))


# --- compose -----------------------------------------------------------------------------------------------------


def test_every_image_is_pinned_to_a_version() -> None:
    images = [service["image"] for service in SERVICES.values()]
    images += [rest.split()[0] for name, rest in instructions() if name == "FROM"]
    for image in images:
        assert re.fullmatch(r"[a-z-]+:\d+[0-9a-z.-]*", image), f"{image} is not pinned"


def test_no_secret_has_a_default() -> None:
    found = 0
    for service in SERVICES.values():
        for name, value in service.get("environment", {}).items():
            if re.search("PASSWORD|SECRET", name) or re.search(r"://\w+:", value):
                assert REQUIRED.search(value), f"{name} can be left out"
                assert not re.search(r"(?<!\$)\{|:-", value)
                found += 1
    assert found >= 7
    assert ":-" not in str(COMPOSE).replace("${LEDGER_PORT:-8080}", "")


def test_nothing_is_published_but_the_ledger_on_loopback() -> None:
    assert {name for name, service in SERVICES.items() if service.get("ports")} == {"ledger"}
    assert all(port.startswith("127.0.0.1:") for port in SERVICES["ledger"]["ports"])
    assert COMPOSE["networks"]["inside"] == {"internal": True}
    assert all(SERVICES[name]["networks"] == ["inside"] for name in ("postgres", "nats", "migrate"))


def test_our_containers_have_no_privileges_and_write_to_their_volumes_and_tmp_alone() -> None:
    for name in OURS:
        service = SERVICES[name]
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["tmpfs"] == ["/tmp"]
        assert service["volumes"] == ["keys:/keys", "anchor:/anchor", "backups:/backups"]
        assert "privileged" not in service


def test_the_servers_have_health_checks_and_start_again() -> None:
    for name in ("postgres", "nats"):
        assert SERVICES[name]["healthcheck"]["test"]
    assert [name for name, _ in instructions()].count("HEALTHCHECK") == 1
    assert {name for name, service in SERVICES.items() if service["restart"] == "unless-stopped"} == {
        "postgres",
        "nats",
        "ledger",
    }


def test_the_ledger_waits_for_the_schema_and_never_for_nats() -> None:
    assert SERVICES["ledger"]["depends_on"] == {"migrate": {"condition": "service_completed_successfully"}}
    assert SERVICES["migrate"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}


def test_every_variable_is_one_that_the_program_knows_and_every_required_one_is_set() -> None:
    known = {variable.name for variable in VARIABLES}
    required = {variable.name for variable in VARIABLES if variable.default is None}
    image = image_environment()
    assert {name for name in image if name.startswith("LEDGER_")} <= known
    served = {**image, **SERVICES["ledger"]["environment"]}
    assert {name for name in served if name.startswith("LEDGER_")} <= known
    assert required - {"LEDGER_ADMIN_DATABASE_URL"} <= served.keys()
    assert SERVICES["migrate"]["environment"].keys() == {"LEDGER_ADMIN_DATABASE_URL"}
    assert "LEDGER_ADMIN_DATABASE_URL" not in served, "the server could change the schema"


def test_every_mounted_file_is_there() -> None:
    for service in SERVICES.values():
        for mount in service.get("volumes", []):
            source = mount.split(":")[0]
            if source.startswith("."):
                assert (TOP / source).is_file(), source
                assert mount.endswith(":ro")
            else:
                assert source in COMPOSE["volumes"]


# --- the image ---------------------------------------------------------------------------------------------------


def test_the_image_is_not_root_and_has_an_init_that_reaps() -> None:
    final = instructions()[max(n for n, (name, _) in enumerate(instructions()) if name == "FROM") :]
    users = [rest for name, rest in final if name == "USER"]
    assert users == ["10001:10001"]
    (entrypoint,) = [rest for name, rest in final if name == "ENTRYPOINT"]
    assert yaml.safe_load(entrypoint) == ["tini", "--", "consent-ledger"]
    assert not any(name == "ADD" for name, _ in final)
    assert any("rm -rf /var/lib/apt/lists/*" in rest for name, rest in final if name == "RUN")


def test_what_the_image_copies_is_there_and_not_kept_from_it() -> None:
    ignored = (TOP / ".dockerignore").read_text(encoding="utf-8").split()
    assert ignored[0] == "*"
    for name, rest in instructions():
        if name == "COPY" and not rest.startswith("--from"):
            for source in rest.split()[:-1]:
                assert (TOP / source).exists()
                assert f"!{source}" in ignored


def test_the_health_check_tells_a_living_server_from_none(api: Api) -> None:  # noqa: F811
    (check,) = [rest for name, rest in instructions() if name == "HEALTHCHECK"]
    command = yaml.safe_load(check.partition("CMD ")[2])
    assert command[0] == "python"
    for port, healthy in ((api.url.rpartition(":")[2], True), (str(free_port()), False)):
        done = subprocess.run(
            [sys.executable, *command[1:]],
            env={**os.environ, "LEDGER_PORT": port},
            capture_output=True,
            check=False,
            timeout=RUN_SECONDS,
        )
        assert (done.returncode == 0) == healthy


@pytest.mark.slow
def test_the_wheel_that_the_image_installs_holds_all_that_the_program_reads(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name, rest in instructions():
        if name == "COPY" and not rest.startswith("--from"):
            for path in rest.split()[:-1]:
                subprocess.run(["cp", "-r", str(TOP / path), str(source)], check=True)
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(tmp_path)]
    subprocess.run([*command, str(source)], check=True, timeout=RUN_SECONDS)
    (wheel,) = tmp_path.glob("consent_ledger-*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    data = {
        str(path.relative_to(TOP))
        for path in (TOP / "ledger").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert data <= names, f"the wheel lacks {sorted(data - names)}"
    assert not any(name.startswith("tests/") for name in names)
    assert any(name.endswith("licenses/LICENSE") for name in names)


# --- what runs every night ---------------------------------------------------------------------------------------

nightly = pytest.mark.parametrize("name", ["backup", "scrub"])


@nightly
def test_the_timer_and_the_job_give_a_command_that_there_is_and_nothing_secret(name: str) -> None:
    unit = (DEPLOY / "systemd" / f"consent-ledger-{name}.service").read_text(encoding="utf-8")
    (started,) = re.findall(r"^ExecStart=(.*)$", unit, flags=re.MULTILINE)
    job = yaml.safe_load((DEPLOY / "kubernetes" / f"{name}.yaml").read_text(encoding="utf-8"))
    (container,) = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    for words in (shlex.split(started)[1:], container["args"]):
        command = main.get_command(click.Context(main), words[0])
        assert command is not None
        given = command.make_context(words[0], list(words[1:])).params
        assert words[0] == name
        assert given["touched"] if name == "scrub" else given["keep"] is None  # LEDGER_BACKUP_KEEP, for all
    assert "Type=oneshot" in unit
    assert "EnvironmentFile=" in unit
    assert not re.search(r"^Environment=.*(SECRET|PASSWORD)", unit, flags=re.MULTILINE)
    timer = (DEPLOY / "systemd" / f"consent-ledger-{name}.timer").read_text(encoding="utf-8")
    assert {"OnCalendar", "Persistent", "WantedBy"} <= {line.partition("=")[0] for line in timer.splitlines()}


@nightly
def test_the_job_runs_alone_as_nobody_and_mounts_no_more_than_it_needs(name: str) -> None:
    job = yaml.safe_load((DEPLOY / "kubernetes" / f"{name}.yaml").read_text(encoding="utf-8"))
    assert (job["kind"], job["spec"]["concurrencyPolicy"]) == ("CronJob", "Forbid")
    pod = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    image = image_environment()
    assert container["image"] == SERVICES["ledger"]["image"]
    mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
    kept = {image["LEDGER_KEYS_DIR"], image["LEDGER_ANCHOR_DIR"], image["LEDGER_BACKUP_DIR"]}
    assert mounts == {"/tmp", *(kept if name == "backup" else ())}
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
    backups = {"name": "LEDGER_BACKUP_DIR", "value": image["LEDGER_BACKUP_DIR"]}
    assert container.get("env", []) == ([backups] if name == "backup" else [])
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}


# --- PostgreSQL and NATS -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("password", ["0123456789" * 4, "12e5", "deadbeef" * 6])
@pytest.mark.parametrize("sealed", [False, True], ids=["as it is", "with the key's lines"])
def test_nats_takes_its_configuration_with_any_password_of_hex_digits(
    tmp_path: Path, password: str, *, sealed: bool
) -> None:
    text = (DEPLOY / "nats.conf").read_text(encoding="utf-8")
    assert "sync_interval: always" in text
    if sealed:
        assert len(re.findall(r"# (?=key:|cipher:)", text)) == 2
        text = re.sub(r"# (?=key:|cipher:)", "", text)
    config = tmp_path / "nats.conf"
    config.write_text(text.replace("/data", str(tmp_path / "data")), encoding="utf-8")
    given = SERVICES["nats"]["environment"]
    environ = {
        "NATS_USER": given["NATS_USER"],
        "NATS_PASSWORD": REQUIRED.sub(password, given["NATS_PASSWORD"]),
        **({"NATS_JETSTREAM_KEY": f'"{password}"'} if sealed else {}),
    }
    done = subprocess.run(
        [find_nats(), "-t", "--config", config], env=environ, capture_output=True, check=False, timeout=RUN_SECONDS
    )
    assert done.returncode == 0, done.stderr


async def test_the_login_of_the_init_script_can_serve_and_owns_nothing(postgres: Postgres) -> None:
    name, password = "ledger_deploy", "it's a secret"
    async with admin(postgres) as connection:
        await connection.execute(f"create database {name}")
        await connection.execute("drop role if exists ledger_app")
    # Roles belong to the whole cluster, where other tests may have migrated already.
    script = (DEPLOY / "postgres-init.sh").read_text(encoding="utf-8")
    async with admin(postgres) as connection:
        if await connection.fetchval("select count(*) from pg_roles where rolname = 'ledger_service'"):
            script = script.replace("create role ledger_service nologin;\n", "")
    environ = {
        "PATH": f"{find_postgres().directory}:{os.environ['PATH']}",
        "PGHOST": "127.0.0.1",
        "PGPORT": str(postgres.port),
        "PGPASSWORD": postgres.password,
        "POSTGRES_USER": "postgres",
        "POSTGRES_DB": name,
        "LEDGER_DATABASE_PASSWORD": password,
    }
    try:
        subprocess.run(["sh", "-c", script], env=environ, check=True, capture_output=True, timeout=RUN_SECONDS)
        await migrate(postgres.url(name))
        login = await asyncpg.connect(
            host="127.0.0.1", port=postgres.port, user="ledger_app", password=password, database=name
        )
        try:
            assert await login.fetchval("select ledger.create_site('shop.example.com', 'ledger.test/shop.example.com')")
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await login.execute("delete from ledger.site")
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await login.execute("create table ledger.mine (a int)")
        finally:
            await login.close()
    finally:
        async with admin(postgres) as connection:
            await connection.execute(f"drop database {name} with (force)")
            await connection.execute("drop role if exists ledger_app")


def test_every_reason_why_appending_is_refused_is_explained() -> None:
    package = TOP / "ledger"
    sources = (package / name for name in ("sequencer.py", "site.py", "vault.py", "store/ask.py"))
    source = "".join(path.read_text(encoding="utf-8") for path in sources)
    reasons = set(re.findall(r'(?:Unavailable\(\s*|trouble = |: \(\s*)"([a-z]+(?:-[a-z]+)*)"', source))
    assert {"log-behind", "no-log", "database-unprepared", "overloaded"} <= reasons
    page = (DEPLOY / "README.md").read_text(encoding="utf-8")
    table = page.partition("## When appending is refused")[2].partition("\n## ")[0]
    assert {reason for reason in reasons if f"`{reason}`" not in table} == set()
