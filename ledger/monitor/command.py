"""`consent-ledger monitor`: arguments in, findings and exit code out."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from pathlib import Path
from urllib.parse import urlsplit

import click
import msgspec

from ledger.commands.could_not_run import or_could_not_run
from ledger.commands.options import FiniteRange, read_log_id
from ledger.config import MONITOR_INTERVAL_SECONDS, MONITOR_MAX_AGE_SECONDS, MONITOR_URLS_MAX
from ledger.core.errors import ConfigInvalid
from ledger.core.note import TYPE_COSIGNATURE, TYPE_ED25519, parse_vkey
from ledger.core.quorum import Group, TrustPolicy, WitnessEntry, parse_policy
from ledger.log_client import check_key, check_url
from ledger.log_lines import set_up_logging
from ledger.monitor.record import Record
from ledger.monitor.run import SOUND, Report, Task, look_once, watch_on
from ledger.monitor.watch import Aim

KEY_VARIABLE = "LEDGER_AUDIT_KEY"
WEBHOOK_VARIABLE = "LEDGER_MONITOR_WEBHOOK"

log = logging.getLogger(__name__)


@click.command("monitor")
@click.argument("urls", metavar="URL...", nargs=-1)
@click.option("--log-vkey", required=True, metavar="VKEY", help="The log's key, as it was given to you out of band.")
@click.option("--log-id", metavar="HEX", help="The log's id, likewise: pins the genesis entry and so the root key.")
@click.option("--witness", "witnesses", multiple=True, metavar="VKEY", help="A witness that must have cosigned.")
@click.option("--policy", type=click.Path(path_type=Path), metavar="FILE", help="A tlog-policy with witnesses instead.")
@click.option(
    "--state",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(".ledger/monitor"),
    show_default=True,
    help="Where to keep what was verified, and evidence.",
)
@click.option("--once", is_flag=True, help="Look once, report, and end.")
@click.option(
    "--interval",
    type=FiniteRange(0.1, 86_400),
    default=MONITOR_INTERVAL_SECONDS,
    show_default=True,
    help="Seconds from one look to the next.",
)
@click.option(
    "--max-age",
    type=click.IntRange(1, 10**9),
    default=MONITOR_MAX_AGE_SECONDS,
    show_default=True,
    help="Seconds after which the witnesses' last cosignatures are stale.",
)
@click.option(
    "--max-silence",
    type=click.IntRange(0, 10**9),
    default=0,
    help="Seconds for which the checkpoint may stay the same; 0, the default: for ever.",
)
@click.option(
    "--key-file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help=f"An API key with the scope audit, where entries are guarded (else {KEY_VARIABLE}).",
)
@click.option("--no-entries", is_flag=True, help="Do not read entries: signatures, consistency and tiles alone.")
@click.option(
    "--webhook",
    envvar=WEBHOOK_VARIABLE,
    metavar="URL",
    default="",
    help=f"Where findings are posted as JSON (or {WEBHOOK_VARIABLE}, where the URL is a secret).",
)
@click.option("--metrics-port", type=click.IntRange(0, 65_535), default=0, help="Serve metrics for Prometheus there.")
@click.option("--metrics-host", default="127.0.0.1", show_default=True, help="Address of the metrics.")
@click.option("--keep-going", is_flag=True, help="Watch on after a fault; else it ends the monitor with exit code 1.")
@click.option("--acknowledge", is_flag=True, help="Take note of the faults found so far, and end; evidence stays.")
@click.option("--json", "as_json", is_flag=True, help="Print findings as lines of JSON.")
@click.pass_context
def monitor_command(
    context: click.Context,
    urls: tuple[str, ...],
    log_vkey: str,
    log_id: str | None,
    witnesses: tuple[str, ...],
    policy: Path | None,
    state: Path,
    once: bool,
    interval: float,
    max_age: int,
    max_silence: int,
    key_file: Path | None,
    no_entries: bool,
    webhook: str,
    metrics_port: int,
    metrics_host: str,
    keep_going: bool,
    acknowledge: bool,
    as_json: bool,
) -> None:
    """Watch a log over HTTP, as an auditor: that it is signed, only grows, and is the same at every URL.

    Exit code 0: sound, 1: a fault, 2: could not run or could not see. A fault stays one, after a restart too, until
    it is acknowledged.
    """
    set_up_logging()
    with or_could_not_run(context):
        aim = Aim(
            parse_vkey(log_vkey, TYPE_ED25519),
            read_log_id("--log-id", log_id),
            read_policy(witnesses, policy, log_vkey),
            max_age,
            max_silence,
        )
        if acknowledge:
            with Record(state, aim.origin) as record:
                count = record.acknowledge()
            click.echo(f"acknowledged {count} faults; their evidence stays in {record.directory}")
            context.exit(SOUND)
        task = Task(
            aim,
            read_urls(urls),
            state,
            read_key(key_file),
            not no_entries,
            interval,
            keep_going,
            read_webhook(webhook),
            (metrics_host, metrics_port) if metrics_port else None,
            (lambda notice: click.echo(msgspec.json.encode(notice))) if as_json else None,
        )
        _warn_of_plain_http(task)
        if once:
            report = asyncio.run(look_once(task))
            click.echo(report.encode() if as_json else render(report))
            context.exit(report.exit_code)
        context.exit(asyncio.run(_until_signal(task)))


async def _until_signal(task: Task) -> int:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return await watch_on(task, stop)


def _warn_of_plain_http(task: Task) -> None:
    for url in task.urls:
        parts = urlsplit(url)
        if task.key is not None and parts.scheme == "http" and parts.hostname not in ("127.0.0.1", "::1", "localhost"):
            log.warning("%s is plain http: the key travels in the clear", url)


def read_urls(urls: tuple[str, ...]) -> tuple[str, ...]:
    """Each once; `ConfigInvalid` if there are none, or too many."""
    if not urls:
        raise ConfigInvalid("name at least one URL of the log, such as https://host/logs/site")
    if len(urls) > MONITOR_URLS_MAX:
        raise ConfigInvalid(f"at most {MONITOR_URLS_MAX} URLs")
    return tuple(dict.fromkeys(check_url(url) for url in urls))


def read_policy(witnesses: tuple[str, ...], path: Path | None, log_vkey: str) -> TrustPolicy:
    """Of a file, or of witnesses that must all have cosigned; without either no witness is asked for."""
    if path is not None:
        if witnesses:
            raise ConfigInvalid("--witness or --policy, not both: a policy names its witnesses")
        policy = parse_policy(path.read_text(encoding="utf-8", errors="surrogateescape"))
        if policy.logs and log_vkey not in {str(log.vkey) for log in policy.logs}:
            raise ConfigInvalid(f"{path} trusts other logs, and not this one")
        return policy
    keys = dict.fromkeys(parse_vkey(witness, TYPE_COSIGNATURE) for witness in witnesses)
    if not keys:
        return TrustPolicy()
    entries = tuple(WitnessEntry(str(key), key, None) for key in keys)
    return TrustPolicy((), entries, (Group("all", len(entries), tuple(e.name for e in entries)),), "all")


def read_key(path: Path | None) -> str | None:
    text = os.environ.get(KEY_VARIABLE, "") if path is None else path.read_text(encoding="utf-8")
    return check_key(text) if path is not None or text else None


def read_webhook(url: str) -> str:
    parts = urlsplit(url)
    if url and (parts.scheme not in ("http", "https") or not parts.hostname):
        raise ConfigInvalid("--webhook is an http or https URL")
    return url


_MEANING = {
    "sound": "every URL shows one log, signed, and it continues what was known",
    "fault": "this log, or what was shown of it, is not what it has to be",
    "not seen": "not everything could be looked at",
}


def render(report: Report) -> str:
    """A single look, as lines of text."""
    lines = [f"{report.verdict}: {_MEANING[report.verdict]}", f"  log        {report.origin}"]
    if report.size:
        extent = "every entry judged" if report.entries else "consistency and tiles alone: entries were not read"
        lines += [f"  log id     {report.log_id or 'not seen'}", f"  size       {report.size:,}, root {report.root}"]
        lines += [f"  extent     {extent}"]
    for fault in report.faults:
        where = f" at entry {fault.seq}" if fault.seq is not None else ""
        lines.append(f"  fault      {fault.kind}, rule {fault.rule}{where}: {fault.detail} ({fault.url})")
        if fault.evidence:
            lines.append(f"  evidence   {fault.evidence}")
    lines += [f"  alarm      {alarm.kind}: {alarm.detail}" for alarm in report.alarms]
    return "\n".join(lines)
