"""The region of a request: from the header of a trusted proxy, or from a MaxMind-format file that lies on this machine.

An address is looked up and forgotten: it is not kept, counted, logged or quoted in an error. What may be believed is
core/whereabouts; nothing here is asked over a network. Without settings every region is None, which is anywhere.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import maxminddb
from multidict import MultiMapping

from ledger import config
from ledger.config import Settings
from ledger.core.errors import ConfigInvalid
from ledger.core.whereabouts import (
    Address,
    Networks,
    client_address,
    is_public,
    parse_address,
    parse_networks,
    region_of_code,
    region_of_record,
)

log = logging.getLogger(__name__)

_X_FORWARDED_FOR = "X-Forwarded-For"
_FORWARDED = "Forwarded"


class Finding(NamedTuple):
    """How often a region was asked for and found; when the file in use was built (seconds since 1970, 0: none)."""

    found: int
    unknown: int
    built: int


class RegionFinder:
    """Finds regions of requests. `follow` keeps up with the file; before that none is open."""

    def __init__(self, trusted: Networks | None = None, header: str = "", database: Path | None = None) -> None:
        self._trusted = trusted or Networks()
        self._header = header
        self._path = database
        self._reader: maxminddb.Reader | None = None
        self._opened: _Identity | None = None
        self._built = 0
        self._found = self._unknown = 0
        self._proxies: dict[str, Address] = {}
        self._check: subprocess.Popen[bytes] | None = None

    @classmethod
    def of(cls, settings: Settings) -> RegionFinder:
        """As the settings want it, its file open; `ConfigInvalid` if that cannot be read."""
        finder = cls(parse_networks(settings.trusted_proxies), settings.region_header, settings.geoip_db)
        try:
            finder.reload()
        except (OSError, maxminddb.InvalidDatabaseError) as error:
            raise ConfigInvalid(f"LEDGER_GEOIP_DB={settings.geoip_db}: {_reason(error)}") from error
        return finder

    def find(self, peer: str | None, headers: MultiMapping[str]) -> str | None:
        """The region of who sent a request: `peer` is the socket's other end. ISO 3166-1 or -2, None where unknown."""
        if peer is None or not (self._header or self._reader):
            return None
        region = self._find(peer, headers)
        if region is None:
            self._unknown += 1
        else:
            self._found += 1
        return region

    def address(self, peer: str | None, headers: MultiMapping[str]) -> str | None:
        """The address of who sent a request, past trusted proxies; None where it is unknown. It is kept of
        administrators alone: a visitor's is looked at and let go."""
        address = None if peer is None else parse_address(peer)
        if address is not None and peer is not None and self._trusted and self._is_proxy(peer, address):
            address = client_address(
                address, self._trusted, headers.getall(_X_FORWARDED_FOR, ()), headers.getall(_FORWARDED, ())
            )
        return None if address is None else str(address)

    def _find(self, peer: str, headers: MultiMapping[str]) -> str | None:
        address = self._proxies.get(peer) or parse_address(peer)
        if address is None:
            return None
        if self._trusted and self._is_proxy(peer, address):
            if self._header and (told := headers.getall(self._header, ())):
                # Also where it tells nothing: of a guest of Tor the file would know the exit alone.
                return region_of_code(told[0]) if len(told) == 1 else None
            if self._reader is None:
                return None
            address = client_address(
                address, self._trusted, headers.getall(_X_FORWARDED_FOR, ()), headers.getall(_FORWARDED, ())
            )
        return None if address is None else self._look_up(address)

    def _is_proxy(self, peer: str, address: Address) -> bool:
        """Whether the socket's other end is a trusted proxy. Proxies are no persons: their addresses are remembered."""
        if peer in self._proxies:
            return True
        if address not in self._trusted:
            return False
        if len(self._proxies) < config.REGION_PROXIES_REMEMBERED:
            self._proxies[peer] = address
        return True

    def _look_up(self, address: Address) -> str | None:
        if self._reader is None or not is_public(address):
            return None
        try:
            return region_of_record(self._reader.get(address))
        except (ValueError, maxminddb.InvalidDatabaseError):
            return None  # an IPv6 address and a file of IPv4 alone, or a damaged record; the message quotes the address

    # --- the file --------------------------------------------------------------------------------------------------

    def reload(self) -> bool:
        """Open the file if it is another one than the open one; whether it was. OSError or `InvalidDatabaseError`
        leave the open one in use.
        """
        if self._path is None:
            return False
        identity = _identity(self._path)
        if identity == self._opened:
            return False
        reader = _open(self._path, self._checking)
        if _identity(self._path) != identity:
            reader.close()
            raise OSError("the file is being written")
        # A lookup that runs meanwhile holds the one that is let go here until it is through.
        self._reader, self._opened = reader, identity
        self._built = reader.metadata().build_epoch
        return True

    def _checking(self, check: subprocess.Popen[bytes]) -> None:
        self._check = check

    async def follow(self) -> None:
        """Keep up with the file for ever. While it is gone or damaged, the one that was read before goes on."""
        try:
            await self._follow()
        finally:
            if self._check is not None:
                self._check.kill()  # the thread that waits for it would hold up the end of the process

    async def _follow(self) -> None:
        told = ""
        while self._path is not None:
            await asyncio.sleep(config.REGION_RELOAD_SECONDS)
            try:
                if await asyncio.to_thread(self.reload):
                    log.info("the location file was replaced; it was built on %s", _day(self._built))
                told = ""
            except (OSError, maxminddb.InvalidDatabaseError) as error:
                if (reason := _reason(error)) != told:
                    log.warning("the location file cannot be read (%s): the one of before stays in use", reason)
                told = reason

    def finding(self) -> Finding:
        return Finding(self._found, self._unknown, self._built)


def built_at(path: Path) -> int:
    """When a location file was built, in seconds since 1970; `ConfigInvalid` if it cannot be read."""
    try:
        with _open(path) as reader:
            return reader.metadata().build_epoch
    except (OSError, maxminddb.InvalidDatabaseError) as error:
        raise ConfigInvalid(_reason(error)) from error


_Identity = tuple[int, int, int, int]


def _identity(path: Path) -> _Identity:
    status = path.stat()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _open(path: Path, checking: Callable[[subprocess.Popen[bytes]], None] = lambda _: None) -> maxminddb.Reader:
    """A reader over a private copy that has no name: a file that is cut short while it is mapped kills who reads it.

    `checking` is told of the process that reads it through before.
    """
    with path.open("rb") as source, tempfile.NamedTemporaryFile(prefix="ledger-location-") as copy:
        if os.fstat(source.fileno()).st_size > config.REGION_DATABASE_MAX_BYTES:
            raise OSError(f"more than {config.REGION_DATABASE_MAX_BYTES >> 20} MB")
        shutil.copyfileobj(source, copy, 1024 * 1024)
        copy.flush()
        _read_through(copy.name, checking)
        return maxminddb.open_database(copy.name)


def _read_through(name: str, checking: Callable[[subprocess.Popen[bytes]], None]) -> None:
    """Read the whole file once, in another process: the reader is in C, and a damaged byte can end who runs it.

    `InvalidDatabaseError` where it cannot be read through.
    """
    command = (sys.executable, "-P", "-c", _READ_THROUGH, name, str(config.REGION_CHECK_MAX_BYTES))
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=quiet) as check:
        checking(check)
        try:
            status = check.wait(config.REGION_CHECK_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired as error:
            check.kill()
            raise maxminddb.InvalidDatabaseError("it cannot be read through in time") from error
        if status != 0:
            raise maxminddb.InvalidDatabaseError("it cannot be read through")


_READ_THROUGH = """
import maxminddb, resource, sys
size = int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_AS, (size, size))
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
for _ in maxminddb.open_database(sys.argv[1]):
    pass
"""


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return "it is no MaxMind-format database, or damaged"


def _day(seconds: int) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(seconds))
