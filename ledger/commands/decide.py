"""`consent-ledger decide`: one visitor's decisions, with the rules that led to them, straight from the database.

It asks the database and not a server: so it answers while no server runs, needs no API key, and leaves no trace in
anybody's access log. Whoever may run it has the master secret, without which no visitor can be found. The rules are
core/decide.
"""

from __future__ import annotations

import logging
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import click
import msgspec

from ledger.answering import ConsentQuestion
from ledger.commands.locate import DATA, at_site
from ledger.commands.options import read_time
from ledger.commands.visitor_option import VISITOR_FILE, read_visitor
from ledger.core.encoding import decode_decimal
from ledger.core.errors import ConfigInvalid, Malformed
from ledger.core.event import ANY_PURPOSE, PurposeId, Region, matches
from ledger.messages import Consent, PurposeDecision

_WIDTH = 100


@click.command("decide")
@click.argument("site")
@click.argument("purposes", nargs=-1, metavar="[PURPOSE]...")
@VISITOR_FILE
@click.option("--at", metavar="TIME", help="The moment that is asked about, like 2026-11-21T03:00:00Z.  [default: now]")
@click.option("--known-at", metavar="SEQ|TIME", help="What the ledger knew: up to an entry, or before a time.")
@click.option("--region", metavar="CODE", help="Where it is asked from, like KZ or US-CA; unknown is the strictest.")
@click.option("--gpc", is_flag=True, help="As if a Global Privacy Control signal were on.")
@click.option("--explain", is_flag=True, help="Tell the rules in plain words, in their order.")
@click.option("--json", "as_json", is_flag=True, help="For programs: the answer of GET …/consent without the visitor.")
@DATA
def decide_command(
    site: str,
    purposes: tuple[str, ...],
    visitor_file: BinaryIO,
    at: str | None,
    known_at: str | None,
    region: str | None,
    gpc: bool,
    explain: bool,
    as_json: bool,
    data: Path,
) -> None:
    """What a visitor of SITE may be processed for: each PURPOSE, or all that the policy has.

    The visitor's id is read from standard input or a file, never from the command line. Ends with 0 whatever the answer
    is, with 2 where there is none.
    """
    for purpose in purposes:
        if purpose == ANY_PURPOSE or not matches(PurposeId, purpose):
            raise ConfigInvalid(f"{purpose!r} is no purpose id")
    if region is not None and not matches(Region, region):
        raise ConfigInvalid("--region is an ISO 3166 code like KZ or US-CA")
    known, known_is_time = _known(known_at)
    question = ConsentQuestion(
        visitor=read_visitor(visitor_file),
        purposes=list(dict.fromkeys(purposes)) or None,
        at_ms=read_time("--at", at),
        known=known,
        known_is_time=known_is_time,
        region=region,
        gpc=gpc,
        explain=explain,
        asked_by="operator",
    )
    logging.getLogger("ledger.site").setLevel(logging.ERROR)  # nothing is recorded: that no key lies here is no news
    consent = at_site(data, site, lambda service, found: service.consent(found, question))
    if as_json:
        told: dict[str, Any] = msgspec.to_builtins(consent)
        del told["visitor"]
        click.echo(msgspec.json.format(msgspec.json.encode(told), indent=2).decode())
    else:
        click.echo("\n".join(_words(consent)))


def _known(text: str | None) -> tuple[int | None, bool]:
    """A seq and False, or a time in milliseconds and True."""
    if text is None:
        return None, False
    try:
        return decode_decimal(text), False
    except Malformed:
        return read_time("--known-at", text), True


def _words(consent: Consent) -> list[str]:
    version = f"version {consent.policy_version}" if consent.policy_version else "no version"
    lines = [f"{consent.site}, as of {consent.position}: {version} of the policy is in force"]
    if consent.linked:
        lines.append("The visitor is linked to an account, whose choices count.")
    for purpose, decision in consent.decisions.items():
        lines += ["", f"{purpose}: {decision.decision}", *_wrapped(_details(decision), "  ")]
        for sentence in decision.explanation:
            lines += _wrapped(f"- {sentence}", "  ", "    ")
    return lines


def _details(decision: PurposeDecision) -> str:
    parts = [f"reason {decision.reason}"]
    if decision.status:
        parts.append(decision.status)
    if decision.regime:
        parts.append(f"regime {decision.regime}")
    if decision.seq is not None:
        parts.append(f"by entry {decision.seq} of {decision.decided_at}")
    if decision.valid_until:
        parts.append(f"until {decision.valid_until}")
    flags = (
        (decision.ask, "the visitor is to be asked"),
        (decision.notify, "the new version is to be announced"),
        (decision.conflict, "browser and account answered differently"),
        (decision.conditional, "the grant was the price of access"),
    )
    return ", ".join(parts + [words for holds, words in flags if holds])


def _wrapped(text: str, first: str, later: str | None = None) -> Sequence[str]:
    return textwrap.wrap(text, _WIDTH, initial_indent=first, subsequent_indent=first if later is None else later)
