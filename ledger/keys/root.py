"""The root key of a log as a person holds it: on this machine at first, offline under a passphrase afterwards.

Only the founding of a site and `key` commands ever open it; the service runs without one.
"""

from __future__ import annotations

import getpass
import os
import sys
from pathlib import Path
from typing import Protocol

from ledger.config import Settings
from ledger.core.admin_act import ADMIN_SUFFIX, admin_log_of, is_admin_log
from ledger.core.ed25519 import SEED_BYTES, SigningKey
from ledger.core.errors import ConfigInvalid
from ledger.durable import sync_directory
from ledger.keys import files as key_files
from ledger.keys.sealed import seal_by_passphrase, unseal, unseal_by_passphrase


class Ask(Protocol):
    """How a passphrase is asked for."""

    def __call__(self, prompt: str, *, confirm: bool = False) -> str: ...


def load_root(settings: Settings, origin: str, root_file: Path | None, ask: Ask | None = None) -> SigningKey:
    """From where it lies, or where the person says; `ConfigInvalid` tells what is wrong."""
    site = origin.rpartition("/")[2]
    path = root_file or key_files.root_path(settings, site)
    if root_file is None and not path.exists():
        raise ConfigInvalid(f"the root key of {site} is not here (no {path}): say where it is with --root-key FILE")
    sealed = key_files.read_key_file(path)
    if (sealed.origin, sealed.role) != (origin, "root"):
        raise ConfigInvalid(f"{path} holds the {sealed.role} key of {sealed.origin}, not the root key of {origin}")
    if not sealed.has_passphrase:
        return key_files.open_key_file(path, *settings.master_secrets)
    passphrase = (ask or read_passphrase)(f"Passphrase of {path}")
    try:
        return unseal_by_passphrase(sealed, passphrase)
    except ConfigInvalid as error:
        raise ConfigInvalid(f"the key file {path} cannot be opened: {error}") from error


class Offline:
    """The root keys of a site that is being founded, where they never were among the service's keys: in `root_file`,
    and that of the administrative log beside it, under one passphrase that is asked for once."""

    def __init__(self, settings: Settings, root_file: Path) -> None:
        self._settings = settings
        self._file = root_file
        self._passphrase: str | None = None

    def key(self, origin: str) -> SigningKey:
        """The root key of this origin: the one that lies there, else a new one."""
        path = self._file.with_name(self._file.name + ADMIN_SUFFIX) if is_admin_log(origin) else self._file
        if path.exists():
            return load_root(self._settings, origin, path, self._ask)
        return make_root(origin, path, self._ask)

    def _ask(self, prompt: str, *, confirm: bool = False) -> str:
        if self._passphrase is None:
            self._passphrase = read_passphrase(prompt, confirm=confirm)
        return self._passphrase


def make_root(origin: str, root_file: Path, ask: Ask | None = None) -> SigningKey:
    """A root key that begins its life offline: made in that file, under a new passphrase."""
    if root_file.exists():
        raise ConfigInvalid(f"{root_file} is there already, and a key file is never replaced")
    key = SigningKey(os.urandom(SEED_BYTES))
    passphrase = (ask or read_passphrase)(f"New passphrase for {root_file}", confirm=True)
    key_files.write_key_file(root_file, seal_by_passphrase(key, origin, "root", passphrase))
    return key


def where_to_keep(settings: Settings, site: str, root_file: Path | None) -> str:
    """What whoever founds a site is told of its keys."""
    if root_file is not None:
        return (
            f"The root keys are in {root_file} and {root_file}{ADMIN_SUFFIX}: keep them offline, their passphrase "
            "elsewhere. Only key changes need them."
        )
    path = key_files.root_path(settings, site)
    if not path.exists():
        return f"The other keys lie in {path.parent}; the root key is not among them, and belongs offline."
    return (
        f"The keys lie in {path.parent}. The root key among them, {path.name}, says which keys count: who has it can "
        "take the log over, and only key changes need it. Take it offline now, onto a medium that lies in a safe:\n"
        f"  consent-ledger key take-offline {site} FILE\n"
        f"  consent-ledger key take-offline {admin_log_of(site)} FILE  # of the administrative log"
    )


def take_offline(settings: Settings, site: str, destination: Path) -> Path:
    """Move the root key into a file under a passphrase, whose path comes back. The copy is opened again before the
    original goes; cut off in between, it is finished by the next call.
    """
    path = key_files.root_path(settings, site)
    target = destination / f"{site}-root.key" if destination.is_dir() else destination
    if not path.exists():
        raise ConfigInvalid(f"there is no {path}: the root key of {site} is offline already, or on another machine")
    sealed = key_files.read_key_file(path)
    root = unseal(sealed, *settings.master_secrets)
    if target.exists():
        passphrase = read_passphrase(f"Passphrase of {target}")
    else:
        passphrase = read_passphrase(f"New passphrase for {target}", confirm=True)
        key_files.write_key_file(target, seal_by_passphrase(root, sealed.origin, "root", passphrase))
    copy = key_files.read_key_file(target)
    if (copy.origin, copy.role, copy.public) != (sealed.origin, "root", sealed.public):
        raise ConfigInvalid(f"{target} holds another key: choose another file")
    if unseal_by_passphrase(copy, passphrase).seed != root.seed:
        raise ConfigInvalid(f"{target} does not hold what was written: is the medium sound?")
    path.unlink()
    sync_directory(path.parent)
    return target


def read_passphrase(prompt: str, *, confirm: bool = False) -> str:
    """From the terminal, unseen; else the first line of standard input, so that a script can hand it over."""
    if not sys.stdin.isatty():
        line = sys.stdin.readline().rstrip("\n")
        if not line:
            raise ConfigInvalid(f"{prompt}: there is no terminal to ask at, and no line on standard input")
        return line
    passphrase = getpass.getpass(f"{prompt}: ")
    if confirm and getpass.getpass("Once more: ") != passphrase:
        raise ConfigInvalid("the two passphrases differ")
    return passphrase
