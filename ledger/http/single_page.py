"""One HTML file out of a page, its style sheet and its scripts, so that it can be saved and used without a server.

The page's security policy is written into it, by hashes: nothing else runs in it, and it can open no connection. Not
a bundler for code at large: modules import by name from beside them and export functions and constants, no more.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from functools import cache
from hashlib import sha256
from html import escape
from pathlib import Path

from ledger.records.page import Written

WEB = Path(__file__).parent.parent / "web"
"""Where the pages are."""

_IMPORT = re.compile(r'^import \{[^}]*\} from "\./([\w-]+\.js)";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?=(?:async function|function|class|const) )", re.MULTILINE)
_LEFT_OVER = re.compile(r"^(?:import|export)\b|</script", re.MULTILINE)
_STYLE = re.compile(r'<link rel="stylesheet" href="/web/([\w-]+\.css)">')
_SCRIPT = re.compile(r'<script type="module" src="/web/([\w-]+\.js)"></script>')
_IMAGE = re.compile(r'"/web/([\w-]+\.svg)"')
_DATA = re.compile(r'(<script type="application/json" id="[\w-]+">)\{\}(</script>)')


@cache
def assemble(name: str, script: str | None = None) -> str:
    """The page `name` with everything that it loads put in; `script`: with that one in place of its own.

    ValueError if a module is of another shape.
    """
    page = (WEB / name).read_text(encoding="utf-8")
    if script is not None:
        page = _SCRIPT.sub(f'<script type="module" src="/web/{script}"></script>', page)
    style = "\n".join((WEB / file).read_text(encoding="utf-8") for file in _STYLE.findall(page))
    code = "\n".join(_modules(file) for file in _SCRIPT.findall(page))
    policy = (
        f"default-src 'none'; script-src '{_hash(code)}'; style-src '{_hash(style)}'; img-src data:; "
        "connect-src 'none'; base-uri 'none'; form-action 'none'"
    )
    page = _STYLE.sub(lambda _: f"<style>{style}</style>", page)
    page = _SCRIPT.sub(lambda _: f'<script type="module">{code}</script>', page)
    page = _IMAGE.sub(lambda image: f'"{_data_url(WEB / image[1])}"', page)
    head = f'<meta charset="utf-8">\n  <meta http-equiv="Content-Security-Policy" content="{policy}">'
    return page.replace('<meta charset="utf-8">', head, 1)


def framed(name: str, written: Written, script: str | None = None) -> str:
    """What was written for people, in the assembled frame `name`."""
    # The data goes in first: it is looked for in the frame alone, where no text of a policy stands yet.
    page = with_data(assemble(name, script), written.script_words)
    return filled(page, written.language, written.title, written.body)


def policy_of(page: str) -> str:
    """The security policy of an assembled page, for its header too."""
    return page.partition('"Content-Security-Policy" content="')[2].partition('"')[0]


def filled(page: str, language: str, title: str, body: str) -> str:
    """The page in another language, with a title and a body put in. `body` is markup, the others are text.

    What is put in is not looked at again, so nothing in it can pass for a place where more is put in.
    """
    puts = {"<!-- body -->": body, '<html lang="en">': f'<html lang="{escape(language)}">'}
    puts["<title></title>"] = f"<title>{escape(title)}</title>"
    return re.sub("|".join(map(re.escape, puts)), lambda place: puts[place[0]], page)


def with_data(page: str, data: Mapping[str, object]) -> str:
    """The page with an object in its one data block, which no policy has to allow: it is not run."""
    text = json.dumps(dict(data), ensure_ascii=True).replace("<", "\\u003c")
    return _DATA.sub(lambda block: f"{block[1]}{text}{block[2]}", page, count=1)


def _modules(first: str) -> str:
    """A module with all that it imports before it, each once, in one scope."""
    placed: list[str] = []
    waiting: list[str] = []

    def place(name: str) -> str:
        if name in waiting:
            raise ValueError(f"{name} imports itself by a detour")
        if name in placed:
            return ""
        waiting.append(name)
        code = (WEB / name).read_text(encoding="utf-8")
        before = "".join(place(imported) for imported in _IMPORT.findall(code))
        waiting.remove(name)
        placed.append(name)
        code = _EXPORT.sub("", _IMPORT.sub("", code))
        if _LEFT_OVER.search(code):
            raise ValueError(f"{name} imports or exports in a way that is not known here, or ends a script")
        return f"{before}\n// {name}\n{code}"

    return place(first)


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(sha256(text.encode()).digest()).decode()}"


def _data_url(path: Path) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(path.read_bytes()).decode()}"
