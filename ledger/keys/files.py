"""Key files on this machine: several a role, for keys overlap while one takes over from another.

    <LEDGER_KEYS_DIR>/<site>/root.key                until it is taken offline
    <LEDGER_KEYS_DIR>/<site>/ingest-<key id>.key
    <LEDGER_KEYS_DIR>/<site>/log-<key id>.key
    <LEDGER_KEYS_DIR>/<site>/receipt-<number>-<key id>.key

Which keys count is what the log says and not what lies here; but the log knows no receipt keys: all that lie here are
published, and the one with the greatest number signs. What a file holds is sealed_key's part.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ledger import config
from ledger.config import Settings
from ledger.core.ed25519 import SEED_BYTES, SigningKey
from ledger.core.errors import ConfigInvalid, LedgerError
from ledger.durable import replace, sync_directory, unfinished_name, write_new
from ledger.keys.sealed import SealedKey, is_sealed_under, parse_sealed_key, seal, unseal

_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP)


class KeysHere(NamedTuple):
    """The keys of one role that this machine can use, by their files, and what is wrong with other files of it."""

    keys: dict[Path, SigningKey]
    problems: dict[Path, str]


def site_directory(settings: Settings, site: str) -> Path:
    return settings.keys_dir / site


def root_path(settings: Settings, site: str) -> Path:
    """Where the root key lies until it is taken offline."""
    return site_directory(settings, site) / "root.key"


def log_keys(settings: Settings, site: str) -> list[SigningKey]:
    """Every log key on this machine, active or not; `ConfigInvalid` if none can be used."""
    here = keys_here(settings, site, "log")
    if not here.keys:
        where = site_directory(settings, site) / "log-*.key"
        raise ConfigInvalid("; ".join(here.problems.values()) or f"no log key of {site}: expected a file {where}")
    return list({key.public: key for key in here.keys.values()}.values())


def keys_here(settings: Settings, site: str, role: str) -> KeysHere:
    """Look at every file of a role. One that is damaged, or still being copied here, takes no other away."""
    keys: dict[Path, SigningKey] = {}
    problems: dict[Path, str] = {}
    for path in paths_of(settings, site, role):
        try:
            sealed = read_key_file(path)
            if (sealed.origin.rpartition("/")[2], sealed.role) != (site, role):
                raise ConfigInvalid(f"{path} holds the {sealed.role} key of {sealed.origin}: it does not belong there")
            keys[path] = open_key_file(path, *settings.master_secrets)
        except ConfigInvalid as error:
            problems[path] = str(error)
    return KeysHere(keys, problems)


def paths_of(settings: Settings, site: str, role: str) -> list[Path]:
    """The files of a role, by name."""
    if role == "root":
        path = root_path(settings, site)
        return [path] if path.exists() else []
    try:
        names = sorted(entry.name for entry in os.scandir(site_directory(settings, site)))
    except OSError:
        return []
    return [
        site_directory(settings, site) / name for name in names if name.startswith(f"{role}-") and name.endswith(".key")
    ]


def read_key_file(path: Path) -> SealedKey:
    """What a file says it holds, without opening it; `ConfigInvalid` tells what is wrong."""
    try:
        with path.open("rb") as file:
            data = file.read(config.KEY_FILE_MAX_BYTES + 1)
    except FileNotFoundError as error:
        raise ConfigInvalid(f"there is no key file {path}") from error
    except OSError as error:
        raise ConfigInvalid(f"the key file {path} cannot be read: {error.strerror}") from error
    try:
        return parse_sealed_key(data)
    except LedgerError as error:
        raise ConfigInvalid(f"{path} is no key file that can be used: {error}") from error


def open_key_file(path: Path, *master_secrets: bytes) -> SigningKey:
    """The key in a file of this installation; `ConfigInvalid` tells what is wrong."""
    sealed = read_key_file(path)
    try:
        return unseal(sealed, *master_secrets)
    except ConfigInvalid as error:
        raise ConfigInvalid(f"the key file {path} cannot be opened: {error}") from error


def new_key(settings: Settings, origin: str, role: str) -> Path:
    """Make an ingest, log or receipt key, in a file of its own."""
    site = origin.rpartition("/")[2]
    key = SigningKey(os.urandom(SEED_BYTES))
    sealed = seal(key, origin, role, settings.master_secret)
    number = f"{_next_number(settings, site):04d}-" if role == "receipt" else ""
    path = site_directory(settings, site) / f"{role}-{number}{sealed.key_id}.key"
    _make_directory(settings, site)
    write_key_file(path, sealed)
    return path


def receipt_keys(settings: Settings, site: str) -> KeysHere:
    """The receipt keys that can be used, the newest first."""
    here = keys_here(settings, site, "receipt")
    return KeysHere(dict(sorted(here.keys.items(), key=lambda item: _number(item[0]), reverse=True)), here.problems)


def ensure_receipt_key(settings: Settings, origin: str) -> None:
    """Make a first receipt key, unless there is one, or what was one."""
    site = origin.rpartition("/")[2]
    _make_directory(settings, site)
    with _locked(site_directory(settings, site)):
        if not paths_of(settings, site, "receipt"):
            new_key(settings, origin, "receipt")


def _next_number(settings: Settings, site: str) -> int:
    return max((_number(path)[0] for path in paths_of(settings, site, "receipt")), default=0) + 1


def _number(path: Path) -> tuple[int, str]:
    """The number in the name of a receipt key's file: the same on every machine, unlike the file's age."""
    number = path.name.split("-")[1]
    return (int(number) if number.isascii() and number.isdigit() else 0), path.name


def founding_key(settings: Settings, origin: str, role: str) -> SigningKey:
    """The key with which a log begins: the one that a founding broken off left here, else a new one."""
    site = origin.rpartition("/")[2]
    _make_directory(settings, site)
    with _locked(site_directory(settings, site)):  # who founds the same site at this moment finds the same keys
        for path in paths_of(settings, site, role):
            sealed = read_key_file(path)
            if (sealed.origin, sealed.role) != (origin, role):
                raise ConfigInvalid(
                    f"{path} holds the {sealed.role} key of {sealed.origin}, and no key is of two logs: move it away"
                )
            return open_key_file(path, *settings.master_secrets)
        if role == "root":
            key = SigningKey(os.urandom(SEED_BYTES))
            write_key_file(root_path(settings, site), seal(key, origin, role, settings.master_secret))
            return key
        path = new_key(settings, origin, role)
        return open_key_file(path, *settings.master_secrets)


def write_key_file(path: Path, sealed: SealedKey) -> None:
    """Mode 0600, whole or not at all, safe from a power cut; it never replaces a file."""
    unfinished = unfinished_name(path)
    try:
        try:
            write_new(unfinished, sealed.encode())
            os.link(unfinished, path)  # unlike a rename, it never replaces a key
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            write_new(path, sealed.encode())  # FAT; half a file after a power cut is refused when it is read
        finally:
            unfinished.unlink(missing_ok=True)
        sync_directory(path.parent)
    except FileExistsError as error:
        raise ConfigInvalid(f"{path} is there already, and a key file is never replaced") from error
    except OSError as error:
        raise ConfigInvalid(f"the key file {path} cannot be written: {error.strerror}") from error


def reseal_key_files(settings: Settings, to: bytes) -> list[Path]:
    """Seal every key file of this machine under the master secret `to`; those that were changed.

    Each is replaced whole or not at all, so whatever ends this, every file opens with the old secret or the new one;
    run again, it goes on. Files under a passphrase are left. `ConfigInvalid` names a file that neither secret opens.
    """
    changed: list[Path] = []
    for directory in _site_directories(settings):
        with _locked(directory):
            for path in sorted(directory.glob("*.key")):
                sealed = read_key_file(path)
                if sealed.has_passphrase or is_sealed_under(sealed, to):
                    continue
                key = open_key_file(path, *settings.master_secrets)
                _replace(path, seal(key, sealed.origin, sealed.role, to))
                changed.append(path)
    return changed


def _site_directories(settings: Settings) -> list[Path]:
    try:
        return sorted(Path(entry.path) for entry in os.scandir(settings.keys_dir) if entry.is_dir())
    except FileNotFoundError:
        return []


def _replace(path: Path, sealed: SealedKey) -> None:
    try:
        replace(path, sealed.encode())
    except OSError as error:
        raise ConfigInvalid(f"the key file {path} cannot be replaced: {error.strerror}") from error


def _make_directory(settings: Settings, site: str) -> None:
    directory = site_directory(settings, site)
    try:
        for folder in (settings.keys_dir, directory):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        sync_directory(settings.keys_dir)
    except OSError as error:
        raise ConfigInvalid(f"the directory {directory} cannot be made: {error.strerror}") from error


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
