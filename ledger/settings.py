"""What a process is told by its environment: every variable, read strictly into one frozen struct."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ledger.core.duration import parse_keep
from ledger.core.encoding import decode_base64, encode_base64
from ledger.core.errors import ConfigInvalid, Malformed
from ledger.core.sealing import SECRET_BYTES, Master
from ledger.core.whereabouts import parse_networks

_SCRUB_HOURS_MAX = 24 * 28


@dataclass(frozen=True)
class Variable:
    """One row of the README's table."""

    name: str
    default: str | None
    meaning: str


VARIABLES = (
    Variable("LEDGER_DATABASE_URL", None, "Postgres, as a login that is a member of `ledger_service`"),
    Variable("LEDGER_ADMIN_DATABASE_URL", None, "Postgres, as superuser or owner; for `migrate` and `recover`"),
    Variable("LEDGER_NATS_URL", "", "NATS with JetStream; empty: nothing is published until it is set"),
    Variable("LEDGER_KEYS_DIR", ".ledger/keys", "directory of the sealed signing keys, `<site>/*.key`"),
    Variable(
        "LEDGER_MASTER_SECRET",
        None,
        "32 random bytes in base64: opens the data keys, under which rows are sealed, and the key files",
    ),
    Variable("LEDGER_MASTER_KEY_VERSION", "1", "number of that master secret: one more each time it is replaced"),
    Variable(
        "LEDGER_NEXT_MASTER_SECRET", "", "the one that is to replace it, as long as `key rotate-master` is under way"
    ),
    Variable("LEDGER_ORIGIN_PREFIX", "ledger.localhost", "prefix of the log origins of sites added from now on"),
    Variable("LEDGER_HOST", "127.0.0.1", "address to listen on"),
    Variable("LEDGER_PORT", "8080", "port to listen on"),
    Variable("LEDGER_PUBLIC_URL", "", "its address for others, for links in records; empty: as whoever asks wrote it"),
    Variable("LEDGER_WORKER_PORT", "0", "port of the metrics of the worker process; 0: none"),
    Variable(
        "LEDGER_ANCHOR_DIR", "", "directory of the last signed checkpoints, to be kept; empty: `anchor` beside the keys"
    ),
    Variable(
        "LEDGER_BACKUP_DIR", "", "directory of backups; the worker keeps the data keys and erasures beside them current"
    ),
    Variable(
        "LEDGER_BACKUP_KEEP",
        "",
        "how long backups are kept, like `35d`: `backup` removes older ones, certificates tell it; empty: neither",
    ),
    Variable(
        "LEDGER_ERASURE_BATCH_SECONDS",
        "3600",
        "how long an erasure may wait for others, so that one entry does not tie one person's visits together; 0: not",
    ),
    Variable("LEDGER_ERASURE_BATCH_PEOPLE", "10", "as many as wait are erased together at once, however short a time"),
    Variable("LEDGER_WITNESS_POLICY", "", "path of a C2SP tlog-policy file: the witnesses, and the quorum of them"),
    Variable("LEDGER_TRUSTED_PROXIES", "", "networks and addresses of our own proxies, by comma: they name the client"),
    Variable("LEDGER_REGION_HEADER", "", "header in which a trusted proxy tells the region (ISO 3166): `CF-IPCountry`"),
    Variable("LEDGER_GEOIP_DB", "", "path of a MaxMind-format file: the region by address; read anew when replaced"),
    Variable("LEDGER_REQUEST_WEBHOOK", "", "URL at which the controller is told of people's requests"),
    Variable(
        "LEDGER_SCRUB_HOURS",
        "24",
        "how often tables are written anew from which something was erased; 0: soon after every erasure",
    ),
    Variable("LEDGER_DEMO", "", "path of an `up`'s credentials.json: serve the demo page with its publishable keys"),
)


@dataclass(frozen=True)
class Settings:
    """What a process needs to know of its surroundings. Secrets never appear in its repr."""

    database_url: str = field(repr=False)
    keys_dir: Path
    master_secret: bytes = field(repr=False)
    nats_url: str = field(default="", repr=False)
    admin_database_url: str = field(default="", repr=False)
    origin_prefix: str = "ledger.localhost"
    host: str = "127.0.0.1"
    port: int = 8080
    worker_port: int = 0
    witness_policy: Path | None = None
    anchor_dir: Path | None = None
    backup_dir: Path | None = None
    backup_keep: str = ""
    demo: Path | None = None
    trusted_proxies: str = ""
    region_header: str = ""
    geoip_db: Path | None = None
    public_url: str = ""
    erasure_batch_seconds: int = 0
    erasure_batch_people: int = 10
    request_webhook: str = field(default="", repr=False)
    master_key_version: int = 1
    next_master_secret: bytes = field(default=b"", repr=False)
    scrub_hours: int = 24

    @property
    def masters(self) -> tuple[Master, ...]:
        """The master secrets that this process knows, the one in force first, then the one that is to replace it."""
        known = [Master(self.master_key_version, self.master_secret)]
        if self.next_master_secret:
            known.append(Master(self.master_key_version + 1, self.next_master_secret))
        return tuple(known)

    @property
    def master_secrets(self) -> tuple[bytes, ...]:
        """The same without their versions: whatever opens a key file is right."""
        return tuple(master.secret for master in self.masters)

    @property
    def backup_keep_ms(self) -> int | None:
        """For how long backups are kept; None where nobody said."""
        return parse_keep(self.backup_keep) if self.backup_keep else None

    @property
    def anchors(self) -> Path:
        """Where the last signed checkpoints lie, outside the database."""
        return self.anchor_dir or self.keys_dir.parent / "anchor"

    def environment(self) -> dict[str, str]:
        """The variables that make another process load these same settings (never the admin's database URL)."""
        return {
            "LEDGER_DATABASE_URL": self.database_url,
            "LEDGER_KEYS_DIR": str(self.keys_dir),
            "LEDGER_MASTER_SECRET": encode_base64(self.master_secret),
            "LEDGER_MASTER_KEY_VERSION": str(self.master_key_version),
            "LEDGER_NEXT_MASTER_SECRET": encode_base64(self.next_master_secret) if self.next_master_secret else "",
            "LEDGER_NATS_URL": self.nats_url,
            "LEDGER_ORIGIN_PREFIX": self.origin_prefix,
            "LEDGER_HOST": self.host,
            "LEDGER_PORT": str(self.port),
            "LEDGER_PUBLIC_URL": self.public_url,
            "LEDGER_REQUEST_WEBHOOK": self.request_webhook,
            "LEDGER_WORKER_PORT": str(self.worker_port),
            "LEDGER_ANCHOR_DIR": str(self.anchor_dir) if self.anchor_dir else "",
            "LEDGER_BACKUP_DIR": str(self.backup_dir) if self.backup_dir else "",
            "LEDGER_BACKUP_KEEP": self.backup_keep,
            "LEDGER_ERASURE_BATCH_SECONDS": str(self.erasure_batch_seconds),
            "LEDGER_ERASURE_BATCH_PEOPLE": str(self.erasure_batch_people),
            "LEDGER_WITNESS_POLICY": str(self.witness_policy) if self.witness_policy else "",
            "LEDGER_DEMO": str(self.demo) if self.demo else "",
            "LEDGER_TRUSTED_PROXIES": self.trusted_proxies,
            "LEDGER_REGION_HEADER": self.region_header,
            "LEDGER_GEOIP_DB": str(self.geoip_db) if self.geoip_db else "",
            "LEDGER_SCRUB_HOURS": str(self.scrub_hours),
        }


def load_settings(environ: Mapping[str, str] = os.environ) -> Settings:
    """Settings from the environment; `ConfigInvalid` names what is missing and what it is for."""
    values: dict[str, str] = {}
    for variable in VARIABLES:
        value = environ.get(variable.name) or variable.default
        if value is None and variable.name != "LEDGER_ADMIN_DATABASE_URL":
            raise ConfigInvalid(f"set {variable.name} ({variable.meaning}), or pass --data DIR of an `up`")
        values[variable.name] = value or ""
    secret = _secret(values, "LEDGER_MASTER_SECRET")
    following = _secret(values, "LEDGER_NEXT_MASTER_SECRET") if values["LEDGER_NEXT_MASTER_SECRET"] else b""
    if following == secret:
        raise ConfigInvalid("LEDGER_NEXT_MASTER_SECRET is the secret that it is to replace: make a new one")
    return Settings(
        database_url=values["LEDGER_DATABASE_URL"],
        admin_database_url=values["LEDGER_ADMIN_DATABASE_URL"],
        nats_url=values["LEDGER_NATS_URL"],
        keys_dir=Path(values["LEDGER_KEYS_DIR"]),
        master_secret=secret,
        master_key_version=_version(values, "LEDGER_MASTER_KEY_VERSION"),
        next_master_secret=following,
        origin_prefix=values["LEDGER_ORIGIN_PREFIX"],
        host=values["LEDGER_HOST"],
        port=_port(values, "LEDGER_PORT"),
        public_url=_url(values, "LEDGER_PUBLIC_URL"),
        request_webhook=_webhook(values, "LEDGER_REQUEST_WEBHOOK"),
        worker_port=_port(values, "LEDGER_WORKER_PORT"),
        anchor_dir=Path(values["LEDGER_ANCHOR_DIR"]) if values["LEDGER_ANCHOR_DIR"] else None,
        erasure_batch_seconds=_whole(values, "LEDGER_ERASURE_BATCH_SECONDS", 0, 30 * 86_400),
        erasure_batch_people=_whole(values, "LEDGER_ERASURE_BATCH_PEOPLE", 1, 100),
        witness_policy=Path(values["LEDGER_WITNESS_POLICY"]) if values["LEDGER_WITNESS_POLICY"] else None,
        backup_dir=Path(values["LEDGER_BACKUP_DIR"]) if values["LEDGER_BACKUP_DIR"] else None,
        backup_keep=_keep(values, "LEDGER_BACKUP_KEEP"),
        demo=Path(values["LEDGER_DEMO"]) if values["LEDGER_DEMO"] else None,
        trusted_proxies=_networks(values, "LEDGER_TRUSTED_PROXIES"),
        region_header=_region_header(values),
        geoip_db=Path(values["LEDGER_GEOIP_DB"]) if values["LEDGER_GEOIP_DB"] else None,
        scrub_hours=_hours(values, "LEDGER_SCRUB_HOURS"),
    )


def _secret(values: Mapping[str, str], name: str) -> bytes:
    try:
        secret = decode_base64(values[name])
    except Malformed as error:
        raise ConfigInvalid(f"{name} is not base64: `openssl rand -base64 32` makes one") from error
    if len(secret) != SECRET_BYTES:
        raise ConfigInvalid(f"{name} has to be 32 bytes: `openssl rand -base64 32` makes one")
    return secret


def _version(values: Mapping[str, str], name: str) -> int:
    text = values[name]
    if re.fullmatch(r"[1-9][0-9]{0,8}", text) is None:
        raise ConfigInvalid(f"{name} is a number from 1 on")
    return int(text)


def _url(values: Mapping[str, str], name: str) -> str:
    url = values[name].rstrip("/")
    if url and re.fullmatch(r"https?://[A-Za-z0-9.:\[\]-]{1,255}(?:/[A-Za-z0-9._~/-]{0,255})?", url) is None:
        raise ConfigInvalid(f"{name} is an address like https://ledger.example.com")
    return url


def _webhook(values: Mapping[str, str], name: str) -> str:
    url = values[name]
    if url and re.fullmatch(r"https?://[!-~]{1,2000}", url) is None:
        raise ConfigInvalid(f"{name} is an address like https://controller.example.com/requests")
    return url


def _networks(values: Mapping[str, str], name: str) -> str:
    try:
        parse_networks(values[name])
    except Malformed as error:
        raise ConfigInvalid(f"{name}: {error}; write networks like 10.0.0.0/8, 2001:db8::/32, by comma") from error
    return values[name]


def _region_header(values: Mapping[str, str]) -> str:
    name = values["LEDGER_REGION_HEADER"].strip()
    if name and re.fullmatch(r"[A-Za-z0-9-]{1,64}", name) is None:
        raise ConfigInvalid("LEDGER_REGION_HEADER is the name of a header, like CF-IPCountry")
    if name and not values["LEDGER_TRUSTED_PROXIES"].strip(" ,"):
        raise ConfigInvalid("LEDGER_REGION_HEADER needs LEDGER_TRUSTED_PROXIES: from others the header is not believed")
    return name


def _keep(values: Mapping[str, str], name: str) -> str:
    text = values[name]
    try:
        if text:
            parse_keep(text)
    except ConfigInvalid as error:
        raise ConfigInvalid(f"{name}: {error}") from error
    return text


def _hours(values: Mapping[str, str], name: str) -> int:
    text = values[name]
    if not text.isascii() or not text.isdigit() or int(text) > _SCRUB_HOURS_MAX:
        raise ConfigInvalid(f"{name} is a number of hours from 0 to {_SCRUB_HOURS_MAX}")
    return int(text)


def _whole(values: Mapping[str, str], name: str, least: int, most: int) -> int:
    text = values[name]
    if not text.isascii() or not text.isdigit() or not least <= int(text) <= most:
        raise ConfigInvalid(f"{name} is a whole number from {least} to {most}")
    return int(text)


def _port(values: Mapping[str, str], name: str) -> int:
    text = values[name]
    if not text.isascii() or not text.isdigit() or int(text) > 65_535:
        raise ConfigInvalid(f"{name} is a port number from 0 to 65535")
    return int(text)
