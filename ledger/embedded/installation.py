"""A data directory of `up`: its paths, its lock, and the secrets that were made with it, all of mode 0600.

DIR/lock               held while an `up` runs here
DIR/installation.json  secrets and ports, made once; what is stored nowhere else
DIR/credentials.json   for clients; written when the service answers
DIR/witnesses          a trust policy (C2SP tlog-policy) of your own; read when `up` starts
DIR/keys/              signing keys, one directory a site
DIR/postgres/ nats/    the servers' data; nats.conf
DIR/run/ log/          records of running processes; logs
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import msgspec

from ledger.config import VARIABLES, Settings
from ledger.core.encoding import decode_base64, encode_base64
from ledger.core.errors import ConfigInvalid
from ledger.credentials import CREDENTIALS_NAME, SiteKeys
from ledger.durable import replace
from ledger.embedded.nats import Nats, nats_url
from ledger.embedded.postgres import SUPERUSER, Postgres, database_url

DATABASE = "ledger"
SERVICE_LOGIN = "ledger_app"
_HEEDED = frozenset({"LEDGER_BACKUP_DIR", "LEDGER_BACKUP_KEEP"})
_MASTER_SECRET_BYTES = 32
_PASSWORD_BYTES = 24


class Installation(msgspec.Struct, frozen=True):
    """`installation.json`. API keys are stored nowhere else in clear; ports are kept so that URLs stay valid."""

    postgres_password: str
    service_password: str
    nats_password: str
    master_secret: str
    origin_prefix: str
    master_key_version: int = 1
    next_master_secret: str = ""
    postgres_port: int = 0
    nats_port: int = 0
    backup_dir: str = ""
    backup_keep: str = ""
    sites: dict[str, SiteKeys] = msgspec.field(default_factory=dict)


class DataDirectory:
    """The paths of one data directory, and what is read from and written to it."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.postgres = self.path / "postgres"
        self.nats = self.path / "nats"
        self.nats_config = self.path / "nats.conf"
        self.keys = self.path / "keys"
        self.run = self.path / "run"
        self.witnesses = self.path / "witnesses"
        self.credentials = self.path / CREDENTIALS_NAME
        self._installation = self.path / "installation.json"
        self._lock = self.path / "lock"

    def log(self, name: str) -> Path:
        return self.path / "log" / f"{name}.log"

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Make the directory if need be, and hold it. `ConfigInvalid` if another `up` does, or it is not ours.

        The kernel drops the lock when this process ends, however it ends: children do not inherit the descriptor.
        """
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(self._lock, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise ConfigInvalid(f"{self.path} cannot be used ({error.strerror}): choose another with --data") from error
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                holder = os.read(descriptor, 32).decode("ascii", errors="replace").strip()
                raise ConfigInvalid(
                    f"{self.path} is in use by another `consent-ledger up` (process {holder or 'unknown'}): "
                    "stop that one, or choose another directory with --data"
                ) from error
            self._refuse_another_owner()
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
            yield
        finally:
            os.close(descriptor)

    def _refuse_another_owner(self) -> None:
        """Root could run another user's ledger, but would leave files in it that this user cannot open any more."""
        with contextlib.suppress(FileNotFoundError):
            owner = self._installation.stat().st_uid
            if owner != os.geteuid():
                raise ConfigInvalid(
                    f"the ledger in {self.path} belongs to another user (uid {owner}): run `up` as that user, "
                    "or choose another directory with --data"
                )

    def has_installation(self) -> bool:
        """Whether an `up` ever began here."""
        return self._installation.exists()

    def installation(self) -> Installation:
        """What was made at the first start; made now if this is the first."""
        try:
            return msgspec.json.decode(self._installation.read_bytes(), type=Installation)
        except FileNotFoundError as error:
            if self.postgres.exists() or self.keys.exists():
                raise ConfigInvalid(
                    f"{self._installation} is missing, and with it the secrets of the data in {self.path}: "
                    "put it back, or begin anew in another directory with --data"
                ) from error
        except (OSError, msgspec.MsgspecError) as error:
            raise ConfigInvalid(f"{self._installation} cannot be read: {error}") from error
        installation = Installation(
            postgres_password=secrets.token_hex(_PASSWORD_BYTES),
            service_password=secrets.token_hex(_PASSWORD_BYTES),
            nats_password=secrets.token_hex(_PASSWORD_BYTES),
            master_secret=encode_base64(secrets.token_bytes(_MASTER_SECRET_BYTES)),
            # A log begun anew takes a new prefix (SPEC.md section 2), and every data directory begins its logs anew.
            origin_prefix=f"{secrets.token_hex(4)}.ledger.localhost",
        )
        self.save(installation)
        return installation

    def save(self, installation: Installation) -> None:
        _write_secret(self._installation, installation)

    def prepare_next_master(self) -> bool:
        """Make the secret that is to replace the master secret; `up` does that when it starts next. False: it was made
        before, and waits."""
        installation = self._made()
        if installation.next_master_secret:
            return False
        made = encode_base64(secrets.token_bytes(_MASTER_SECRET_BYTES))
        self.save(msgspec.structs.replace(installation, next_master_secret=made))
        return True

    def take_next_master(self) -> Installation:
        """Everything is sealed under the next master secret: forget the one before it."""
        installation = self.installation()
        taken = msgspec.structs.replace(
            installation,
            master_secret=installation.next_master_secret,
            master_key_version=installation.master_key_version + 1,
            next_master_secret="",
        )
        self.save(taken)
        return taken

    def admin_database_url(self) -> str:
        """The superuser's URL while `up` runs here; `ConfigInvalid` where no `up` ever ran."""
        installation = self._made()
        return database_url(SUPERUSER, installation.postgres_password, installation.postgres_port, DATABASE)

    def settings(self) -> Settings:
        """What commands need to reach the ledger while `up` runs here; `ConfigInvalid` where no `up` ever ran.
        The environment says where its backups are, for they are not to lie in the directory that they are of, and for
        how long they are kept; where it says neither, that of the `up` that ran here last."""
        installation = self._made()
        told = backups_told()
        backup_dir, backup_keep = told if any(told) else (installation.backup_dir, installation.backup_keep)
        return Settings(
            database_url=database_url(
                SERVICE_LOGIN, installation.service_password, installation.postgres_port, DATABASE
            ),
            nats_url=nats_url(installation.nats_password, installation.nats_port),
            keys_dir=self.keys,
            master_secret=decode_base64(installation.master_secret),
            master_key_version=installation.master_key_version,
            next_master_secret=decode_base64(installation.next_master_secret),
            origin_prefix=installation.origin_prefix,
            witness_policy=self.witnesses if self.witnesses.exists() else None,
            backup_dir=Path(backup_dir) if backup_dir else None,
            backup_keep=backup_keep,
        )

    def postgres_server(self, installation: Installation) -> Postgres:
        return Postgres(
            data=self.postgres,
            port=installation.postgres_port,
            password=installation.postgres_password,
            log=self.log("postgres"),
            run_dir=self.run,
        )

    def nats_server(self, installation: Installation) -> Nats:
        return Nats(
            data=self.nats,
            port=installation.nats_port,
            password=installation.nats_password,
            config=self.nats_config,
            log=self.log("nats"),
            run_dir=self.run,
        )

    def _made(self) -> Installation:
        if not self.has_installation():
            raise ConfigInvalid(f"no ledger in {self.path}: start one with `consent-ledger up`, or pass --data DIR")
        return self.installation()


def backups_told() -> tuple[str, str]:
    """Where the environment says that backups are, and for how long they are kept; empty where it does not."""
    backups = os.environ.get("LEDGER_BACKUP_DIR")
    return str(Path(backups).absolute()) if backups else "", os.environ.get("LEDGER_BACKUP_KEEP", "")


def unheeded() -> list[str]:
    """The variables of the environment that an `up` does not heed: its settings are its own."""
    return [each.name for each in VARIABLES if os.environ.get(each.name) and each.name not in _HEEDED]


def _write_secret(path: Path, value: msgspec.Struct) -> None:
    replace(path, msgspec.json.format(msgspec.json.encode(value)) + b"\n")
