"""Everything of a site in one tar, for the controller at the end of a contract (D3): in forms that anybody can read.

The log and the administrative log as bundles that `verify` audits, the register of requests, the certificates of
erasures, the keys that verify it all, and a text that says how. The bundles are ledger/export's; nothing is judged
here. What is written on its way lies in a directory that outlives no writer (ledger/spool).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from hashlib import file_digest
from pathlib import Path
from typing import BinaryIO, NamedTuple

import msgspec

from ledger import tar
from ledger.certificates import certificate, certified
from ledger.config import EXPORT_WAIT_SECONDS, WHOLE_PIECE_BYTES
from ledger.core.admin_act import admin_log_of
from ledger.core.encoding import encode_time
from ledger.core.errors import LedgerError, NotFound
from ledger.export import Exported, export
from ledger.keys.receipts import ReceiptKeys
from ledger.progress import Progress
from ledger.records.jose import jwk_set
from ledger.service import Service
from ledger.site import Site
from ledger.spool import spooled

LOG, ADMIN_LOG, CERTIFICATES, KEYS = "log", "admin-log", "certificates", "keys"
REGISTER, CONSUMERS, README, SUMS = "requests.ndjson", "consumers.ndjson", "README.txt", "SHA256SUMS"
_ORDER = (README, SUMS, KEYS, CERTIFICATES, REGISTER, CONSUMERS, ADMIN_LOG, LOG)


class Whole(NamedTuple):
    """What was written. `problems` says what is missing or broken; empty where all is well."""

    log: Exported
    admin_log: Exported | None
    requests: int
    certificates: int
    problems: tuple[str, ...]


async def write_whole(
    service: Service,
    keys: ReceiptKeys,
    site: Site,
    directory: Path,
    progress: Progress,
    *,
    wait_seconds: float = EXPORT_WAIT_SECONDS,
) -> Whole:
    """Everything of a site into an empty directory of ours. Raises as `export` does."""
    problems: list[str] = []
    pool, vaults = service.reads.pool, service.sites.vaults

    async def bundle(name: str, folder: str) -> Exported:
        done = await export(pool, vaults, name, directory / folder, progress, wait_seconds=wait_seconds)
        if done.problem is not None:
            problems.append(f"{folder}: {done.problem}")
        return done

    log = await bundle(site.site, LOG)
    try:
        admin_log = await bundle(admin_log_of(site.site), ADMIN_LOG)
    except NotFound:
        admin_log = None
        problems.append(f"{ADMIN_LOG}: the site has none")
    certificates = await _certificates(service, keys, site, directory / CERTIFICATES, problems)
    requests = await _lines(directory / REGISTER, _requests(service, site))
    await _lines(directory / CONSUMERS, _consumers(service, site))
    _put(directory / KEYS / "receipt-keys.json", jwk_set(await keys.of(site, service.sites.loaded())))
    done = Whole(log, admin_log, requests, certificates, tuple(problems))
    _put(directory / README, _readme(site, done).encode())
    await asyncio.to_thread(_sums, directory)
    return done


async def _certificates(service: Service, keys: ReceiptKeys, site: Site, folder: Path, problems: list[str]) -> int:
    """One file for each erasure that is complete."""
    count = 0
    async for erasure in certified(service, site):
        try:
            _put(folder / f"{erasure}.jws", await certificate(service, keys, site, erasure) + b"\n")
            count += 1
        except LedgerError as error:
            problems.append(f"{CERTIFICATES}/{erasure}: {error}")
    return count


async def _requests(service: Service, site: Site) -> AsyncIterator[msgspec.Struct]:
    cursor: str | None = None
    while True:
        page = await service.requests.page(site, cursor=cursor)
        for request in page.requests:
            yield await service.requests.status(site, request.id)
        if page.next is None:
            return
        cursor = page.next


async def _consumers(service: Service, site: Site) -> AsyncIterator[dict[str, object]]:
    for one in await service.consumers.all(site):
        told: dict[str, object] = {"name": one.name, "position": f"{one.site}:{one.position}"}
        if one.confirmed_ms is not None:
            told["confirmedAt"] = encode_time(one.confirmed_ms)
        yield told


async def _lines(path: Path, messages: AsyncIterator[object]) -> int:
    """A message a line."""
    count = 0
    with _opened(path) as file:
        async for message in messages:
            file.write(msgspec.json.encode(message) + b"\n")
            count += 1
    return count


def _opened(path: Path) -> BinaryIO:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.open("wb")


def _put(path: Path, data: bytes) -> None:
    with _opened(path) as file:
        file.write(data)


def _sums(directory: Path) -> None:
    """SHA-256 of every file, as `sha256sum --check` reads them."""
    with (directory / SUMS).open("wb") as sums:
        for folder, folders, files in os.walk(directory):
            folders.sort()
            for name in sorted(files):
                path = Path(folder, name)
                if path != directory / SUMS:
                    with path.open("rb") as file:
                        digest = file_digest(file, "sha256").hexdigest()
                    sums.write(f"{digest}  {path.relative_to(directory).as_posix()}\n".encode())


def _readme(site: Site, done: Whole) -> str:
    admin, audit = done.admin_log, _audit(LOG, done.log, site.log_vkey)
    keys = f"--log-vkey {done.log.log_vkey or site.log_vkey} --jwks {KEYS}/receipt-keys.json"
    lines = [
        f"Everything that a consent ledger held of {site.site}.",
        "",
        "Compare the keys below with those that you were given before: a file cannot vouch for itself.",
        "",
        f"{SUMS}: whether every file arrived as it left",
        f"    sha256sum --check {SUMS}",
        "",
        f"{LOG}/: the log of consents, {done.log.size} entries, with the payloads of all that was not erased",
        f"    {audit}",
        "  payloads.ndjson has one entry a line: seq, salt and payload in base64; a payload is JSON.",
        "  documents/ has every policy and notice under its SHA-256.",
    ]
    if admin is not None:
        lines += [
            "",
            f"{ADMIN_LOG}/: the log of administrative acts, {admin.size} entries; it names who acted",
            f"    {_audit(ADMIN_LOG, admin, 'VKEY')}",
            "  and whether each erasure was ordered:",
            f"    {audit} --admin {ADMIN_LOG}",
        ]
    lines += [
        "",
        f"{CERTIFICATES}/: one of each erasure, {done.certificates} in all; they name nobody",
        f"    consent-ledger certificate verify {CERTIFICATES}/ID.jws {keys}",
        "",
        f"{REGISTER}: the register of people's requests, {done.requests} in all, with every step; each step names the",
        f"  position of its act in {ADMIN_LOG}, where it can be verified.",
        f"{CONSUMERS}: who was registered to keep copies, and up to which position each confirmed erasures.",
        f"{KEYS}/receipt-keys.json: the public keys that signed certificates and receipts (RFC 7517).",
    ]
    if done.problems:
        lines += ["", "What is missing, or not as it should be:", *(f"  {problem}" for problem in done.problems)]
    return "\n".join((*lines, ""))


def _audit(folder: str, done: Exported, vkey: str) -> str:
    return f"consent-ledger verify {folder} --log-vkey {done.log_vkey or vkey} --log-id {done.log_id.hex()}"


def pack_whole(directory: Path, file: BinaryIO, *, compress: bool) -> None:
    """The directory as a tar."""
    tar.pack(directory, file, compress=compress, order=_ORDER)


async def pieces(service: Service, keys: ReceiptKeys, site: Site) -> AsyncGenerator[bytes, None]:
    """The tar of a site, made while it is read: the directory before the first piece, the tar along the way."""
    with spooled() as made:
        await write_whole(service, keys, site, made / "whole", lambda done, total: None)
        async for piece in _piped(lambda file: pack_whole(made / "whole", file, compress=False)):
            yield piece


async def _piped(write: Callable[[BinaryIO], None]) -> AsyncIterator[bytes]:
    """What `write` writes, as it writes it: a pipe holds little, so neither side runs ahead."""
    reader, writer = os.pipe()

    def work() -> None:
        with os.fdopen(writer, "wb", buffering=0) as file:
            write(file)

    task = asyncio.create_task(asyncio.to_thread(work))
    try:
        while piece := await asyncio.to_thread(os.read, reader, WHOLE_PIECE_BYTES):
            yield piece
    finally:
        os.close(reader)  # whoever still writes is told so
        await asyncio.wait([task])
        error = task.exception()
    if error is not None:
        raise error
