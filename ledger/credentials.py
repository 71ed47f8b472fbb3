"""`credentials.json` of a data directory: where a running `up` answers, and the keys of its sites.

Clients (simulate, bench, a person with curl) find their ledger by it. It holds secrets: mode 0600, never logged.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec
from msgspec import Struct

from ledger.core.errors import ConfigInvalid

CREDENTIALS_NAME = "credentials.json"
ACCESS_VARIABLES = ("LEDGER_URL", "LEDGER_PUBLISHABLE_KEY", "LEDGER_SECRET_KEY")


class SiteKeys(Struct, frozen=True):
    """A site's log as an auditor pins it, and its API keys. `log_id` is in hex."""

    log_id: str
    log_vkey: str
    publishable: str
    secret: str


class Credentials(Struct, frozen=True):
    """The whole file. The URLs hold passwords."""

    base_url: str
    database_url: str
    nats_url: str
    sites: dict[str, SiteKeys]


class Access(NamedTuple):
    """What a client of one site needs. `base_url` has no slash at its end."""

    base_url: str
    site: str
    publishable: str
    secret: str


def read_credentials(data: Path) -> Credentials:
    """The file of a data directory; `ConfigInvalid` if there is none or it cannot be read."""
    path = data / CREDENTIALS_NAME
    try:
        return msgspec.json.decode(path.read_bytes(), type=Credentials)
    except FileNotFoundError as error:
        raise ConfigInvalid(
            f"no {path}: start `consent-ledger up`, name its directory by --data, or set {', '.join(ACCESS_VARIABLES)}"
        ) from error
    except (OSError, msgspec.MsgspecError) as error:
        raise ConfigInvalid(f"{path} cannot be read ({type(error).__name__})") from error


def write_credentials(data: Path, credentials: Credentials) -> None:
    """Put the file in its place whole, readable by its owner alone."""
    unfinished = data / (CREDENTIALS_NAME + ".unfinished")
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(credentials)) + b"\n")
    unfinished.replace(data / CREDENTIALS_NAME)


def find_access(site: str, data: Path, environ: Mapping[str, str] = os.environ) -> Access:
    """By the environment where it names all three, else by the data directory; `ConfigInvalid` tells what to do."""
    url, publishable, secret = (environ.get(name, "") for name in ACCESS_VARIABLES)
    if url and publishable and secret:
        return Access(url.rstrip("/"), site, publishable, secret)
    credentials = read_credentials(data)
    keys = credentials.sites.get(site)
    if keys is None:
        raise ConfigInvalid(
            f"{data / CREDENTIALS_NAME} has keys of {', '.join(sorted(credentials.sites))}, and none of {site}: for a "
            f"site that was added later set {', '.join(ACCESS_VARIABLES)} (`consent-ledger site add` printed the keys)"
        )
    return Access(credentials.base_url.rstrip("/"), site, keys.publishable, keys.secret)
