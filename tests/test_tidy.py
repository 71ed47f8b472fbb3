"""The house is tidy: who may import whom, what may lie where, and documents that keep up with the code."""

from __future__ import annotations

import ast
import re
import subprocess
from functools import cache
from pathlib import Path

import pytest

from ledger.config import VARIABLES

TOP = Path(__file__).resolve().parent.parent
PACKAGE = TOP / "ledger"
MODULE_MAX_LINES = 450
LIST_OF_BOUNDS = "ledger.config"  # grows by a name with every limit, and holds nothing else
TOP_LEVEL = {"pyproject.toml", "README.md", "ledger", "proto", "tests", "deploy", "docker-compose.yml", "LICENSE"}
ENTRY_POINTS = {"ledger.cli", "ledger.__main__"}

# What the pure core may not reach for: clocks, randomness, the environment, waiting, the network, the disk.
IMPURE = {
    "asyncio", "os", "time", "random", "secrets", "socket", "subprocess", "threading", "pathlib", "uuid", "tempfile",
    "logging", "io", "shutil", "multiprocessing", "concurrent", "asyncpg", "aiohttp", "nats", "rich", "click", "uvloop",
}  # fmt: skip
CLOCKS = {"now", "utcnow", "today"}

# Prefix of the importer -> what it may import of this package. Who is not named is bound by the cycle test alone.
MAY_IMPORT = {
    "ledger.core": {"ledger.core"},
    "ledger.messages": {"ledger.core"},
    "ledger.config": {"ledger.core", "ledger.settings"},
    "ledger.settings": {"ledger.core"},
    "ledger.records": {"ledger.core", "ledger.messages", "ledger.person_messages", "ledger.records"},
    "ledger.person_messages": {
        "ledger.core",
        "ledger.messages",
        "ledger.erasing.messages",
        "ledger.requests.messages",
    },
    "ledger.secrets": {"ledger.core", "ledger.config"},
    "ledger.store": {"ledger.core", "ledger.config", "ledger.store"},
    "ledger.sequencer": {"ledger.core", "ledger.config", "ledger.store"},
    "ledger.bus": {"ledger.core", "ledger.config"},
    "ledger.bundle": {"ledger.core", "ledger.config", "ledger.spool"},
    "ledger.verify": {
        "ledger.core",
        "ledger.config",
        "ledger.bundle",
        "ledger.progress",
        "ledger.terminal",
        "ledger.verify",
    },
    "ledger.importing": {
        "ledger.core",
        "ledger.config",
        "ledger.messages",
        "ledger.credentials",
        "ledger.commands.locate",
        "ledger.progress",
        "ledger.importing",
    },
    "ledger.simulate": {
        "ledger.core",
        "ledger.messages",
        "ledger.secrets",
        "ledger.credentials",
        "ledger.percentile",
        "ledger.progress",
        "ledger.simulate",
    },
}
# Libraries that a part may not use itself, because another part does it for all.
MAY_NOT_USE = {
    "ledger.http": {"asyncpg", "nats"},
    "ledger.service": {"aiohttp", "nats"},
    "ledger.recording": {"aiohttp", "nats"},
    "ledger.answering": {"aiohttp", "nats"},
    "ledger.standing": {"aiohttp", "nats"},
    "ledger.store": {"aiohttp", "nats"},
    "ledger.sequencer": {"aiohttp", "nats"},
    "ledger.verify": {"aiohttp", "asyncpg", "nats"},
    "ledger.bundle": {"aiohttp", "asyncpg", "nats"},
    "ledger.simulate": {"asyncpg", "nats"},
    "ledger.importing": {"asyncpg", "nats"},
}


def module_name(path: Path) -> str:
    parts = path.relative_to(TOP).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


@cache
def tree(name: str) -> ast.Module:
    return ast.parse(MODULES[name].read_text(encoding="utf-8"))


@cache
def imports(name: str, *, at_runtime: bool = False) -> frozenset[str]:
    """Dotted names that a module imports, anywhere in it; `at_runtime` leaves out `if TYPE_CHECKING:`."""
    found: set[str] = set()
    waiting: list[ast.AST] = [tree(name)]
    while waiting:
        node = waiting.pop()
        if at_runtime and isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            waiting += node.orelse
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: imports are absolute"
            base = node.module or ""
            found |= {f"{base}.{alias.name}" if f"{base}.{alias.name}" in MODULES else base for alias in node.names}
        waiting += ast.iter_child_nodes(node)
    return frozenset(found)


def within(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(prefix + ".")


def tracked_files() -> list[str]:
    listed = subprocess.run(["git", "ls-files"], cwd=TOP, capture_output=True, text=True, check=False)
    return listed.stdout.split() if listed.returncode == 0 else []


@pytest.mark.parametrize(
    "name", [name for name in MODULES if within(name, "ledger.core") or within(name, "ledger.records")]
)
def test_the_core_is_pure(name: str) -> None:
    used = {imported.split(".")[0] for imported in imports(name)}
    assert not used & IMPURE
    called = {node.attr for node in ast.walk(tree(name)) if isinstance(node, ast.Attribute)}
    assert not called & CLOCKS, "a clock belongs into the arguments"
    assert not any(isinstance(node, ast.AsyncFunctionDef | ast.Await) for node in ast.walk(tree(name)))


@pytest.mark.parametrize(("part", "allowed"), MAY_IMPORT.items(), ids=list(MAY_IMPORT))
def test_dependencies_point_inward(part: str, allowed: set[str]) -> None:
    for name in MODULES:
        if not within(name, part):
            continue
        ours = {imported for imported in imports(name) if within(imported, "ledger") and imported != "ledger"}
        stray = {imported for imported in ours if not any(within(imported, prefix) for prefix in allowed)}
        assert not stray, f"{name} imports {sorted(stray)}"


@pytest.mark.parametrize(("part", "forbidden"), MAY_NOT_USE.items(), ids=list(MAY_NOT_USE))
def test_each_library_is_used_by_the_part_it_is_for(part: str, forbidden: set[str]) -> None:
    for name in MODULES:
        if within(name, part):
            assert not {imported.split(".")[0] for imported in imports(name)} & forbidden, name


def test_no_module_imports_itself_by_a_detour() -> None:
    finished: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join((*path[path.index(name) :], name))
        if name not in finished:
            for imported in sorted(imports(name, at_runtime=True) & MODULES.keys() - {"ledger", name}):
                visit(imported, (*path, name))
            finished.add(name)

    for name in MODULES:
        visit(name, ())


def test_every_module_is_reached_from_the_command_line() -> None:
    reached: set[str] = set()
    waiting = [name for name in MODULES if name in ENTRY_POINTS]
    while waiting:
        name = waiting.pop()
        if name in reached:
            continue
        reached.add(name)
        # A module may also be named as a string: a command that is loaded when it is called, or a child process.
        named = {node.value for node in ast.walk(tree(name)) if isinstance(node, ast.Constant)} & MODULES.keys()
        parents = {name.rpartition(".")[0]} & MODULES.keys()
        waiting += (imports(name) & MODULES.keys()) | named | parents
    assert set(MODULES) - reached == set()


def test_every_command_is_where_the_command_line_looks_for_it() -> None:
    from ledger.cli import COMMANDS

    for name, module in COMMANDS.items():
        defined = {node.name for node in tree(module).body if isinstance(node, ast.FunctionDef)}
        assert f"{name.replace('-', '_')}_command" in defined, name


@pytest.mark.parametrize("name", list(MODULES))
def test_every_module_says_what_it_is_for(name: str) -> None:
    lines = MODULES[name].read_text(encoding="utf-8").splitlines()
    assert ast.get_docstring(tree(name)) or not lines, "the module has no docstring"
    assert name == LIST_OF_BOUNDS or len(lines) <= MODULE_MAX_LINES, f"{len(lines)} lines: does it do one thing?"


def test_every_sql_file_is_used() -> None:
    code = "\n".join(path.read_text(encoding="utf-8") for path in MODULES.values())
    for path in PACKAGE.rglob("*.sql"):
        if path.parent.name == "migrations":
            assert re.fullmatch(r"[0-9]{4}_[a-z_]+\.sql", path.name), path
        else:
            assert path.name in code, f"nothing names {path.name}"


def test_migrations_are_numbered_without_a_gap() -> None:
    numbers = sorted(int(path.name[:4]) for path in (PACKAGE / "store" / "migrations").glob("*.sql"))
    assert numbers == list(range(1, len(numbers) + 1))


def test_the_top_level_holds_nothing_more_than_the_layout() -> None:
    top = {name.split("/")[0] for name in tracked_files()}
    assert {name for name in top if not name.startswith(".")} <= TOP_LEVEL


def test_the_readme_lists_every_variable_as_the_code_has_it() -> None:
    readme = (TOP / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(LEDGER_[A-Z_]+)` \| (.+?) \| (.+?) \|$", readme, flags=re.MULTILINE)
    shown = {None: "required", "": "empty"}
    expected = [(v.name, shown.get(v.default, f"`{v.default}`"), v.meaning) for v in VARIABLES]
    assert rows == expected


def test_the_readme_names_nothing_that_is_not_there() -> None:
    readme = (TOP / "README.md").read_text(encoding="utf-8")
    paths = re.findall(r"`((?:ledger|proto|tests|deploy)/[\w./]*)`", readme)
    paths += re.findall(r"\]\(((?!http)[^)#]+)\)", readme)
    assert len(paths) > 20
    assert [path for path in paths if not (TOP / path).exists()] == []


def test_the_version_is_the_same_everywhere() -> None:
    from ledger import __version__

    assert f'version = "{__version__}"' in (TOP / "pyproject.toml").read_text(encoding="utf-8")
