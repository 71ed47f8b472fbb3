"""What the ledger exports is sound by the word of proto/SPEC.md: a verifier that shares no code with it says so."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import msgspec
import pytest

import ledger
from ledger.app import open_service
from ledger.commands.export import run_export
from ledger.config import Settings
from ledger.core.event import EventInput
from ledger.keys.files import log_keys
from ledger.messages import Receipt
from ledger.provision import SiteCredentials, create_site
from ledger.service import Principal
from tests.checkpointing import checkpoint
from tests.vectors import spec_verifier as spec
from tests.vectors.spec_notes import Fault
from tests.vectors.spec_receipts import check_receipt

SITE = "weco.nexaxt.com"
DOCUMENT = Path(ledger.__file__).parent / "sites" / f"{SITE}.yaml"
EVENTS = 300
"""More than an entry bundle holds."""


async def fill(settings: Settings) -> tuple[SiteCredentials, list[Receipt]]:
    """A site with events of every type."""
    credentials = await create_site(settings, DOCUMENT.read_bytes())
    async with open_service(settings) as service:
        site = await service.site(SITE)
        principal = Principal(site.site_id, "secret", frozenset({"events"}))

        async def post(n: int) -> Receipt:
            visitor = f"visitor-{n % 40:020d}"
            if n % 3:
                event = EventInput("consent.refused", visitor, {"analytics": "denied"}, "only_necessary", region="KZ")
            else:
                event = EventInput(
                    "consent.given",
                    visitor,
                    {"analytics": "granted"},
                    "customize",
                    policy_version="1.0",
                    gpc=n % 2 == 0,
                )
            return (await service.record(site, event, principal)).receipt

        return credentials, list(await asyncio.gather(*map(post, range(EVENTS))))


@pytest.mark.slow
def test_an_export_is_sound_and_what_is_cut_from_it_is_missed(settings: Settings, tmp_path: Path) -> None:
    credentials, receipts = asyncio.run(fill(settings))
    bundle = tmp_path / "bundle"
    asyncio.run(checkpoint(settings.database_url, SITE, log_keys(settings, SITE)[0]))
    assert run_export(settings, SITE, bundle) == 0
    log_id = bytes.fromhex(credentials.log_id)

    assert spec.audit(bundle, credentials.log_vkey, log_id) == spec.Report(0, EVENTS + 2, True, None)
    for receipt in receipts[:10]:
        check_receipt(msgspec.to_builtins(receipt), credentials.log_vkey, log_id, None)

    lines = (bundle / "payloads.ndjson").read_bytes().splitlines(keepends=True)
    assert len(lines) == EVENTS
    (bundle / "payloads.ndjson").write_bytes(b"".join(lines[:-1]))
    with pytest.raises(Fault, match="rule 12, entry 301"):
        spec.audit(bundle, credentials.log_vkey, log_id)
    (bundle / "payloads.ndjson").unlink()
    shutil.rmtree(bundle / "documents")
    assert spec.audit(bundle, credentials.log_vkey).exit == 3
