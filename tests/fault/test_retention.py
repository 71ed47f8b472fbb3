"""Retention on a real database: what is due goes, once, with its marks, and whatever breaks off a run is made good."""

from __future__ import annotations

import asyncio
from base64 import urlsafe_b64decode as b64decode
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import asyncpg
import pytest
import pytest_asyncio
from click.testing import CliRunner

from ledger import config as bounds
from ledger.administration import Who
from ledger.app import open_service
from ledger.cli import main
from ledger.config import Settings
from ledger.core.admin_act import admin_log_of
from ledger.core.duration import DAY_MS
from ledger.core.encoding import decode_json
from ledger.core.entry import Kind
from ledger.core.errors import ConfigInvalid, InputRefused
from ledger.core.event import EventInput, convert
from ledger.doctor import duties
from ledger.doctor.finding import Verdict
from ledger.erasing import execution
from ledger.erasing.eraser import Eraser
from ledger.erasing.messages import ErasureInput, ErasureLift
from ledger.export import export
from ledger.keys.files import log_keys
from ledger.keys.receipts import ReceiptKeys
from ledger.messages import CheckInput
from ledger.provision import SiteCredentials
from ledger.recording import Principal
from ledger.retention import closing, pruner, store
from ledger.retention.looking import planned
from ledger.retention.pruner import SitePruner
from ledger.service import Service
from ledger.site import Site
from tests.checkpointing import checkpoint
from tests.harness import check_log, document, found, grant, new_visitor, now_ms, refusal

YEAR_MS = 366 * DAY_MS
TERMS = """
  terms: {{kind: acceptance, document: {}, retention: P5Y, title: {{en: Terms}}, description: {{en: Of sale.}}}}
"""
KEEPS = {"analytics": "{recordRetention: P2Y, regimes: {default: opt-out}, ", "marketing": "{"}


class Shop(NamedTuple):
    """A site whose records are kept a year from the act on, those of analytics two; analytics is opt-out."""

    service: Service
    site: Site
    pool: asyncpg.Pool
    credentials: SiteCredentials

    async def tells(self, **members: Any) -> int:
        """The seq of a grant, or of a refusal."""
        denies = "granted" not in members["decisions"].values()
        told = (refusal if denies else grant)(**members)
        if not denies:
            told["policyVersion"] = "2.0"
        key = Principal(self.site.site_id, "secret", frozenset({"events"}))
        recording = await self.service.record(self.site, convert(told, EventInput), key)
        return recording.receipt.seq

    async def links(self, visitor: str, account: str) -> int:
        """The seq of a visitor's link to an account."""
        told = {"type": "account.linked", "visitor": visitor, "account": account}
        key = Principal(self.site.site_id, "secret", frozenset({"events"}))
        return (await self.service.record(self.site, convert(told, EventInput), key)).receipt.seq

    def terms_hash(self) -> str:
        """Of the document that is accepted."""
        latest = self.site.policies.latest
        assert latest is not None
        return latest.document.purposes["terms"].document or ""

    def pruner(self, years: float) -> SitePruner:
        at_ms = now_ms() + int(years * YEAR_MS)
        return SitePruner(self.pool, self.service.sites, self.site, at_ms)

    async def left(self) -> list[int]:
        rows = await self.pool.fetch(
            "select seq from ledger.opening where site_id = $1 and visitor is not null order by seq", self.site.site_id
        )
        return [row["seq"] for row in rows]

    async def marks(self) -> list[tuple[str, int]]:
        rows = await self.pool.fetch("select purpose, seq from ledger.mark where site_id = $1", self.site.site_id)
        return [tuple(row) for row in rows]


@pytest_asyncio.fixture
async def shop(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Shop]:
    monkeypatch.setattr(bounds, "RETENTION_PAUSE_SECONDS", 0.0)
    site = await found(settings)
    text = document(site.site, "2.0").decode().replace("/cookies}", "/cookies, material: false}")
    for purpose, members in KEEPS.items():
        text = text.replace(f"{purpose}: {{", f"{purpose}: {members}")
    text += "recordRetention: P1Y\nrecordRetentionCounted: act\n"
    async with open_service(settings) as service:
        own = await service.site(site.site)
        terms = (await service.publishing.upload("text/plain", b"The terms of sale.")).answer.document
        text = text.replace("  marketing: {", TERMS.format(terms).lstrip("\n") + "  marketing: {")
        await service.publish(own, text.encode())
        yield Shop(service, own, service.reads.pool, site)


async def test_what_is_due_goes_with_its_marks_and_nothing_else(shop: Shop, settings: Settings, tmp_path: Path) -> None:
    visitors = [new_visitor() for _ in range(3)]
    yes = [await shop.tells(visitor=visitor, decisions={"marketing": "granted"}) for visitor in visitors]
    no = await shop.tells(visitor=visitors[0], decisions={"marketing": "denied"})
    longer = await shop.tells(visitor=visitors[1], decisions={"analytics": "denied"})
    assert (await shop.pruner(0.9).run()).events == 0
    expected = await planned(shop.pool, shop.site, shop.pruner(1.1).now_ms)
    assert await shop.left() == [*yes, no, longer]

    done = await shop.pruner(1.1).run()
    assert done.events == 4
    assert done.counts == expected, "the dry run says what the run does"
    assert await shop.left() == [longer]
    assert await shop.marks() == []
    assert (await shop.pruner(1.1).run()).events == 0, "a second run finds nothing"

    assert (await shop.pruner(2.1).run()).events == 1
    assert await shop.left() == []
    assert await shop.marks() == [("analytics", longer)], "silence would grant"
    runs = await store.report(shop.pool, shop.site.site_id)
    assert [(run.events, run.entries) for run in runs] == [(1, 1), (4, 1)]
    assert sum(runs[1].counts.values()) == 4
    acts = [act for run in runs for act in run.acts]
    assert len(set(acts)) == 2
    log = await check_log(settings, shop.credentials)
    assert sum(entry.kind == Kind.ERASURE for entry in log.entries) == 2
    assert await verdict(shop, settings, tmp_path) == 0, "sound, and every erasure has its act"
    assert all(act.startswith(f"{shop.site.site}.admin-log:") for act in acts)


async def verdict(shop: Shop, settings: Settings, directory: Path) -> int:
    """What `verify --admin` says of both logs."""
    for name in (shop.site.site, admin_log_of(shop.site.site)):
        await checkpoint(settings.database_url, name, log_keys(settings, name)[0])
        await export(shop.pool, shop.service.sites.vaults, name, directory / name, lambda done, size: None)
    bundle, acts = (str(directory / name) for name in (shop.site.site, admin_log_of(shop.site.site)))
    command = ["verify", bundle, "--log-vkey", shop.credentials.log_vkey, "--admin", acts]
    return CliRunner().invoke(main, command).exit_code


STEPS = (
    ("act", True),
    ("begin_batch", True),
    ("erase_seqs", False),
    ("erase_seqs", True),
    ("put_blocks", False),
)
"""Where a run ends, and whether that is after the step."""


class Killed(BaseException):
    """The end of the process."""


async def test_a_run_that_is_broken_off_at_any_step_is_completed_by_the_next(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounds, "RETENTION_BATCH_PEOPLE", 2)
    for n, (step, after) in enumerate(STEPS):
        for visitor in [new_visitor() for _ in range(4)]:
            await shop.tells(visitor=visitor, decisions={"marketing": "granted"})
            await shop.tells(visitor=visitor, decisions={"marketing": "denied", "analytics": "denied"})
        running = shop.pruner(3 + n / 1000)
        marks = len(await shop.marks())
        owner: Any = {"act": running._administration, "erase_seqs": pruner}.get(step, store)
        with monkeypatch.context() as patch:
            break_at(patch, owner, "record" if step == "act" else step, after=after)
            with pytest.raises(Killed):
                await running.run()
        left = await shop.left()
        assert len(left) % 4 == 0, "a batch goes whole or not at all"
        assert len(await shop.marks()) - marks == 4 - len(left) // 2, "and with its marks"

        await SitePruner(shop.pool, shop.service.sites, shop.site, running.now_ms).run()
        assert await shop.left() == []
        assert len(await shop.marks()) - marks == 4
        run = (await store.report(shop.pool, shop.site.site_id))[0]
        assert (run.events, run.people) == (8, 4), step


def break_at(patch: pytest.MonkeyPatch, owner: Any, name: str, *, after: bool) -> None:
    real = getattr(owner, name)

    async def breaks(*arguments: Any, **named: Any) -> Any:
        if after:
            await real(*arguments, **named)
        raise Killed

    patch.setattr(owner, name, breaks)


async def test_what_was_chosen_for_an_account_goes_with_its_links_as_the_dry_run_says(shop: Shop) -> None:
    for account, answer in (("anna", "granted"), ("berik", "denied")):
        visitor = new_visitor()
        await shop.links(visitor, account)
        await shop.tells(visitor=visitor, decisions={"marketing": answer}, scope="account")
    expected = await planned(shop.pool, shop.site, shop.pruner(1.5).now_ms)
    done = await shop.pruner(1.5).run()
    assert done.counts == expected
    assert done.events == 3
    assert len(await shop.left()) == 1, "the link to an account whose no goes on as a mark"
    assert [purpose for purpose, _ in await shop.marks()] == ["marketing"]
    assert await shop.pool.fetchval("select count(*) from ledger.related") == 2, "that link alone, from either end"


async def test_who_acts_meanwhile_is_looked_at_again(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    visitor = new_visitor()
    await shop.tells(visitor=visitor, decisions={"marketing": "granted"})
    real, late, came = execution.erase_seqs, list[int](), list[int | None]()

    async def overtaken(*arguments: Any, **named: Any) -> Any:
        if not late:
            late.append(await shop.tells(visitor=visitor, decisions={"analytics": "denied"}))
        came.append(await real(*arguments, **named))
        return came[-1]

    monkeypatch.setattr(pruner, "erase_seqs", overtaken)
    done = await shop.pruner(1.5).run()
    assert done.events == 1
    assert [seq is None for seq in came] == [True, False], "nothing goes by what was decided before"
    assert await shop.left() == late


async def test_who_is_restricted_is_left_alone(shop: Shop) -> None:
    visitor = new_visitor()
    seq = await shop.tells(visitor=visitor, decisions={"marketing": "granted"})
    other = await shop.tells(visitor=new_visitor(), decisions={"marketing": "granted"})
    await restrict(shop, visitor)
    assert (await shop.pruner(1.5).run()).events == 1
    assert await shop.left() == [seq] != [other]


async def restrict(shop: Shop, visitor: str) -> str:
    """The id of the order."""
    order = {"visitor": visitor, "level": "restrict", "reason": "subject_request", "instruction": "DSR-1"}
    told = await shop.service.erasures.order(shop.site, convert(order, ErasureInput), Who("anna", "operator"))
    return told.id


async def doctors_word(shop: Shop) -> str:
    """Of the closing of the site; and nothing else is amiss."""
    site, waits = shop.site.site, await duties.waiting(shop.pool)
    told = [each async for each in duties.findings(shop.pool, shop.site.site_id, site, waits)]
    (word,) = [each.detail for each in told if each.what == f"{site}, closing"]
    assert all(each.verdict == Verdict.GOOD for each in told if each.detail != word)
    return word


async def lift(shop: Shop, restriction: str) -> None:
    await shop.service.erasures.lift(shop.site, restriction, ErasureLift("DSR-2"), Who("anna", "operator"))


async def test_who_is_restricted_after_the_look_is_left_too_and_what_others_did_goes(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    visitors = [new_visitor() for _ in range(3)]
    for visitor in visitors[:2]:
        await shop.links(visitor, "family")
    own = await shop.tells(visitor=visitors[0], decisions={"marketing": "granted"}, scope="account")
    await shop.tells(visitor=visitors[1], decisions={"analytics": "granted"}, scope="account")
    await shop.tells(visitor=visitors[2], decisions={"marketing": "granted"})
    real, orders, came = execution.erase_seqs, list[str](), list[int | None]()

    async def restricts(*arguments: Any, **named: Any) -> Any:
        if not orders:
            orders.append(await restrict(shop, visitors[0]))
        came.append(await real(*arguments, **named))
        return came[-1]

    monkeypatch.setattr(pruner, "erase_seqs", restricts)
    done = await shop.pruner(2.5).run()
    assert came[0] is None, "nothing goes by what was decided before"
    assert own in await shop.left(), "what was chosen for the account is the restricted person's too"
    assert done.events == 2
    await lift(shop, orders[0])
    assert (await shop.pruner(2.6).run()).events > 0
    assert own not in await shop.left()


async def test_a_closed_site_records_nothing_more_and_keeps_what_law_keeps(
    shop: Shop, settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(pruner, "KNOWN_AFTER_MS", 0)
    monkeypatch.setattr(closing, "KNOWN_AFTER_MS", 0)
    visitor = new_visitor()
    accepted = await shop.tells(
        visitor=visitor, decisions={"terms": "granted", "marketing": "granted"}, shown=shop.terms_hash()
    )
    no = await shop.tells(visitor=visitor, decisions={"marketing": "denied"})
    refuser = new_visitor()
    await shop.tells(visitor=refuser, decisions={"analytics": "denied"})
    claimant = new_visitor()
    proof = await shop.tells(visitor=claimant, decisions={"marketing": "granted"})
    order = {"visitor": claimant, "level": "hold", "reason": "subject_request", "instruction": "DSR-2"}
    await shop.service.erasures.order(shop.site, convert(order, ErasureInput), Who("anna", "operator"))
    wary = new_visitor()
    stays = [await shop.links(wary, "family")]
    stays.append(await shop.tells(visitor=wary, decisions={"marketing": "granted"}, scope="account"))
    restriction = await restrict(shop, wary)
    who = Who("anna", "operator", "termination-2026-11-21")
    for instruction, named in ((None, "--instruction"), ("as Mrs A. wrote", "DSR-2026/117")):
        with pytest.raises(ConfigInvalid, match=named):
            await closing.close_site(shop.pool, shop.service.sites, shop.site, who._replace(instruction=instruction))
    assert await closing.close_site(shop.pool, shop.service.sites, shop.site, who)
    assert not await closing.close_site(shop.pool, shop.service.sites, shop.site, who), "it is closed once"
    with pytest.raises(ConfigInvalid, match="another instruction"):
        await closing.close_site(shop.pool, shop.service.sites, shop.site, who._replace(instruction="DSR-9"))
    await shop.service.sites.load()
    with pytest.raises(InputRefused, match="closed"):
        await shop.tells(visitor=visitor, decisions={"marketing": "denied"})

    await closing.carry_out(shop.pool, shop.service.sites, shop.site, who)
    assert await shop.left() == [accepted, proof, *stays], "who is restricted is left, and nobody waits for it"
    await Eraser(settings, shop.pool).carry_out(shop.service.sites, shop.site)
    await pruner.prune(shop.pool, shop.service.sites, shop.site, now_ms())
    told = await closing.closing_of(shop.pool, shop.site)
    assert (told.status, told.restricted, told.kept) == ("closing", 1, 3)
    assert "1 person is restricted" in await doctors_word(shop)
    await lift(shop, restriction)
    order = {"visitor": new_visitor(), "reason": "subject_request", "instruction": "DSR-3"}
    await shop.service.erasures.order(shop.site, convert(order, ErasureInput), Who("anna", "operator"))
    monkeypatch.setattr(bounds, "CLOSING_ORDERS_WAIT_SECONDS", 0.0)
    async with asyncio.timeout(60):
        await closing.carry_out(shop.pool, shop.service.sites, shop.site, who)
    told = await closing.closing_of(shop.pool, shop.site)
    assert (told.status, told.restricted, told.ordered) == ("closing", 0, 1), "an order is the worker's"
    await Eraser(settings, shop.pool).carry_out(shop.service.sites, shop.site)
    await closing.carry_out(shop.pool, shop.service.sites, shop.site, who)
    assert await shop.left() == [accepted]
    assert await shop.pool.fetchval("select seq from ledger.held") == proof, "an order to hold proof is not overtaken"
    assert await verdict(shop, settings, tmp_path) == 0
    assert await shop.marks() == [("marketing", no)], "the yes beside the acceptance is not to come back to life"
    asked = CheckInput(visitors=[refuser, new_visitor()], purposes=["analytics"])
    answers = (await shop.service.check(shop.site, asked)).results.values()
    assert {answer["analytics"].reason for answer in answers} == {"restricted"}, "no refusal is a yes by default"
    told = await closing.closing_of(shop.pool, shop.site)
    assert (told.status, told.restricted, told.erased, told.kept) == ("closed", 0, 4, 1)
    assert "closed since" in await doctors_word(shop)
    for name, value in settings.environment().items():
        monkeypatch.setenv(name, value)
    close = ("close", shop.site.site)
    for code, word, *arguments in (
        (0, "closed since", "list"),
        (0, '"status": "closed"', "list", "--json"),
        (0, "4 events erased, with 2 erasure entries; 1 left", *close, "--status"),
        (2, "another instruction", *close, "--yes", "--instruction", "DSR-9"),
    ):
        said = await asyncio.to_thread(CliRunner().invoke, main, ["site", *arguments])
        assert (said.exit_code, word in said.output) == (code, True), said.output
    key = await ReceiptKeys(settings, shop.service.reads).signing(shop.site, [shop.site])
    signed = closing.confirmation(told, key, shop.site.origin)
    assert decode_json(b64decode(signed.split(b".")[1] + b"=="))["evidence"] == told.evidence
    await check_log(settings, shop.credentials)

    at_ms = now_ms() + 6 * YEAR_MS
    assert (await pruner.prune(shop.pool, shop.service.sites, shop.site, at_ms))[0].events == 1
    assert await shop.left() == []
