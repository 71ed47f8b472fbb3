"""What a verified receipt says, in words for people who read no code, and as JSON for programs.

Nothing is checked here. Of a receipt that failed nothing is repeated as if it were a fact.
"""

from __future__ import annotations

import msgspec
from msgspec import Struct

from ledger.core.admin_act import AdminAct
from ledger.core.checks import Result
from ledger.core.encoding import encode_base64, encode_time
from ledger.core.errors import Malformed
from ledger.core.event import ANY_PURPOSE, Event
from ledger.core.receipt import CheckName, ReceiptReport, Verdict
from ledger.terminal import plain, row, wrapped

EXIT_CODES = {Verdict.VERIFIED: 0, Verdict.FAILED: 1, Verdict.ACCEPTED: 3, Verdict.UNPROVEN: 3}

TYPES = {
    "consent.given": "Consent given",
    "consent.refused": "Consent refused",
    "consent.withdrawn": "Consent withdrawn",
    "consent.dismissed": "Question closed without an answer",
    "notice.seen": "Notice seen",
    "account.linked": "Linked to an account",
    "account.unlinked": "Unlinked from an account",
    "consent.expired": "Consent expired",
    "consent.invalidated": "Consent ended by a new version of the policy",
}
ACTIONS = {
    "accept_all": "accepted everything",
    "only_necessary": "kept to what is strictly necessary",
    "customize": "chose purpose by purpose when first asked",
    "settings": "changed the choice in the settings",
    "withdraw": "took consent back",
    "dismiss": "closed the question without an answer",
    "gpc": "the browser sent a Global Privacy Control signal",
    "api": "recorded by a backend for the visitor",
    "import": "taken over from another system",
    "guardian": "a guardian acted for a child",
}
AUTHENTICATIONS = {
    "publishable": "a web page, with a publishable key",
    "secret": "the site's backend, with a secret key",
    "ledger": "the ledger itself: nobody acted",
}

ROLES = {
    "operator": "at the command line of the installation",
    "controller": "for the controller",
    "api_key": "with an API key of the site",
    "visitor": "the person concerned",
    "ledger": "the ledger itself",
}


class CheckTold(Struct, frozen=True):
    """One check: `result` is `ok`, `failed` or `not checked`."""

    name: str
    result: str
    detail: str


class CheckpointTold(Struct, frozen=True):
    """The checkpoint of the proof; `root` in base64."""

    origin: str
    size: int
    root: str


class CosignedTold(Struct, frozen=True):
    """A trusted witness, as its vkey, and when it cosigned."""

    witness: str
    at: str


class ReceiptTold(Struct, frozen=True, rename="camel", omit_defaults=True):
    """The JSON report. What the receipt says is left out where it failed."""

    verdict: str
    checks: tuple[CheckTold, ...]
    proves: tuple[str, ...]
    does_not_prove: tuple[str, ...]
    seq: int | None = None
    recorded_at: str = ""
    event: msgspec.Raw = msgspec.Raw()
    checkpoint: CheckpointTold | None = None
    cosigned: tuple[CosignedTold, ...] = ()
    ignored_members: tuple[str, ...] = ()

    def encode(self) -> bytes:
        return msgspec.json.format(msgspec.json.encode(self), indent=2)


def told(report: ReceiptReport) -> ReceiptTold:
    """The report for programs."""
    checks = tuple(CheckTold(str(name), str(result), plain(detail)) for name, result, detail in report.checks)
    does_not_prove = _does_not_prove(report)
    if report.verdict == Verdict.FAILED or report.receipt is None:
        return ReceiptTold(str(report.verdict), checks, _proves(report), does_not_prove)
    head = report.checkpoint
    return ReceiptTold(
        verdict=str(report.verdict),
        checks=checks,
        proves=_proves(report),
        does_not_prove=does_not_prove,
        seq=report.receipt.seq,
        recorded_at=report.receipt.recorded_at,
        event=msgspec.Raw(report.receipt.payload),
        checkpoint=None if head is None else CheckpointTold(head.origin, head.size, encode_base64(head.root)),
        cosigned=tuple(CosignedTold(str(witness), _time(seconds)) for witness, seconds in report.cosigned),
        ignored_members=tuple(plain(name)[:80] for name in report.receipt.ignored),
    )


def render(report: ReceiptReport) -> str:
    """The report for people, the verdict first."""
    lines = [*wrapped(_headline(report)), ""]
    if report.verdict != Verdict.FAILED and report.receipt is not None and report.event is not None:
        proven = report.verdict == Verdict.VERIFIED
        lines += [
            "What was recorded" if proven else "What the receipt says",
            *_recorded(report.event, report.receipt.recorded_at),
        ]
        if report.receipt.ignored:
            names = ", ".join(plain(name)[:80] for name in report.receipt.ignored)
            lines += row("ignored", f"{names}: members of the file that no check covers")
        lines.append("")
    lines.append("What was checked")
    for name, result, detail in report.checks:
        mark = "FAILED" if result == Result.FAILED else str(result)
        lines += wrapped(f"{mark:<12} {name:<11} {plain(detail)}", "  ", 27)
    lines += ["", "What this proves"]
    lines += [line for sentence in _proves(report) for line in wrapped(f"- {sentence}", "  ", 4)]
    lines += ["", "What this does not prove"]
    lines += [line for sentence in _does_not_prove(report) for line in wrapped(f"- {sentence}", "  ", 4)]
    return "\n".join(lines)


def _headline(report: ReceiptReport) -> str:
    if report.verdict == Verdict.VERIFIED and report.checkpoint is not None and report.receipt is not None:
        return f"VERIFIED: the log {report.checkpoint.origin} holds this event, as entry {report.receipt.seq}."
    if report.verdict == Verdict.ACCEPTED:
        return "ACCEPTED ONLY: the operator's server signed this event, but there is no proof that the log holds it."
    if report.verdict == Verdict.UNPROVEN:
        return "NOT PROVEN: the receipt is consistent in itself, but nothing in it is signed that could be checked."
    return f"FAILED: do not rely on this receipt. {_sentence(report.failures[0].detail)}"


def _recorded(event: Event | AdminAct, recorded_at: str) -> list[str]:
    if isinstance(event, AdminAct):
        return _recorded_act(event, recorded_at)
    lines = row("event", f"{TYPES[event.type]}, id {event.id}")
    lines += row("recorded", f"{recorded_at} (by the ledger's clock)")
    lines += row("site", event.site)
    lines += row("visitor", event.visitor)
    if event.account is not None:
        scope = "made for every browser of the account" if event.decisions or event.lapsed else "account"
        lines += row("account", f"{scope} {event.account} (a keyed hash)")
    label = "choices"
    for purpose, answer in event.decisions.items():
        words = "every optional purpose" if purpose == ANY_PURPOSE else purpose
        lines += row(label, f"{words}: {answer}")
        label = ""
    label = "ended"
    for purpose, seq in event.lapsed.items():
        lines += row(label, f"{purpose}, granted in entry {seq}")
        label = ""
    if event.action is not None:
        lines += row("done by", f"{ACTIONS[event.action]} ({event.action})")
    lines += row("sent by", AUTHENTICATIONS[event.authentication])
    if event.component:
        lines += row("control", event.component)
    lines += row("policy", f"version {event.policy_version}" if event.policy_version else "no published version cited")
    cited = (("cited", event.cited_policy_version), ("cited", event.cited_shown))
    rows = (
        ("shown", event.shown and f"the document with SHA-256 {event.shown}"),
        *((label, text and f"{text} (never published)") for label, text in cited),
        ("language", event.language),
        ("region", event.region),
        ("signal", event.gpc and "Global Privacy Control"),
        ("TCF", event.tc_string),
        ("GPP", event.gpp_string),
        ("wall", event.conditional and "the choice was the price of access"),
        ("imported", event.original),
        ("occurred", event.occurred_at and f"{event.occurred_at} (by the visitor's clock)"),
        ("sent", event.sent_at and f"{event.sent_at} (by the visitor's clock)"),
    )
    return lines + [line for label, text in rows if text for line in row(label, text)]


def _recorded_act(act: AdminAct, recorded_at: str) -> list[str]:
    rows = (
        ("act", f"{act.act}, id {act.id}"),
        ("recorded", f"{recorded_at} (by the ledger's clock)"),
        ("log", act.site),
        ("actor", f"{act.actor} ({ROLES[act.role]})"),
        ("instruction", act.instruction),
        ("flagged", act.flagged and f"{act.flagged}: the instruction was believed unlawful"),
        *((name, text) for name, text in act.details.items()),
        ("address", act.address),
        ("occurred", f"{act.occurred_at} (by the server's clock)"),
    )
    return [line for label, text in rows if text for line in row(label, text)]


def _proves(report: ReceiptReport) -> tuple[str, ...]:
    """Sentences that are true given the verdict; none of them depends on this program being believed."""
    if report.verdict == Verdict.FAILED:
        return ("Nothing. Ask where it came from for another copy, and for the reason.",)
    sentences: list[str] = []
    head = report.checkpoint
    if report.verdict == Verdict.VERIFIED and head is not None and report.receipt is not None:
        sentences += [
            f"Whoever holds the log key of {head.origin} has signed that exactly this event is entry "
            f"{report.receipt.seq} of its log, which had {head.size} entries then.",
            "Should the operator ever show a log of that name without this entry, or with another one in its place, "
            "then this receipt and that log together prove the operator wrong.",
        ]
        sentences += [
            f"{witness.name}, a witness that you trust, saw this state of the log at {_time(seconds)}: the event was "
            "recorded by then, and the operator can show no other past to anybody who asks this witness."
            for witness, seconds in report.cosigned
        ]
    if report.result(CheckName.SIGNATURE) == Result.OK:
        sentences.append("The operator's server accepted the event: its ingest key signed it for the log you named.")
    return tuple(sentences) or (
        "Only that the parts of the file fit each other. No signature in it could be checked, so anybody could have "
        "made it.",
    )


def _does_not_prove(report: ReceiptReport) -> tuple[str, ...]:
    if report.verdict == Verdict.FAILED:
        return ("That somebody cheated: a file that was damaged on its way fails as well.",)
    if isinstance(report.event, AdminAct):
        sentences = [
            "Who the actor is beyond the name that the ledger was given, and that the instruction was given at all.",
            "That what the act tells of was carried out: the act is recorded before. `consent-ledger verify --admin` "
            "compares erasures with their acts.",
        ]
    else:
        sentences = _about_a_visitor()
    sentences.append("That the rest of the log is sound: `consent-ledger verify` examines a whole log.")
    if report.verdict != Verdict.VERIFIED:
        sentences.insert(
            0, "That the event is in the log: get the receipt again, once a checkpoint covers it, and verify that one."
        )
    elif not report.cosigned:
        sentences.append(
            "That the recorded time is true, and that everybody is shown the same log: without a witness both are the "
            "operator's word. Name one by --witness, or several by --policy."
        )
    return tuple(sentences)


def _about_a_visitor() -> list[str]:
    return [
        "Who the visitor is: the identifier is a random one that the site gave to a browser.",
        "That the visitor understood the question. The receipt names the policy's version; its text is a document of "
        "its own, published by the ledger.",
        "What the visitor's consent is today: a later event may have changed it.",
    ]


def _sentence(text: str) -> str:
    return plain(text[:1].upper() + text[1:]).rstrip(".") + "."


def _time(seconds: int) -> str:
    try:
        return encode_time(seconds * 1000)
    except Malformed:
        return f"{seconds} s after 1970"
