"""JSON and proto stay in step: every struct is a message and every message a struct, member for member."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import types
import typing
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import pytest
from google.protobuf import descriptor_pb2, json_format, message_factory
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.descriptor_pool import DescriptorPool

import ledger
from ledger import credentials, messages, person_messages
from ledger.core import admin_act, certificate, document, event, opening
from ledger.core.policy import decode_document, encode_document, parse_site_document
from ledger.erasing import messages as erasures
from ledger.requests import messages as requests
from ledger.verify import report

PROTO = Path(__file__).parents[2] / "proto"
PACKAGE = "consentledger.v1"
SCALARS: dict[type, set[int]] = {
    str: {FieldDescriptor.TYPE_STRING},
    bool: {FieldDescriptor.TYPE_BOOL},
    int: {FieldDescriptor.TYPE_UINT64, FieldDescriptor.TYPE_UINT32},
    float: {FieldDescriptor.TYPE_DOUBLE},
    bytes: {FieldDescriptor.TYPE_BYTES},
}
MODULES = (
    *(admin_act, event, certificate, document, messages, erasures, requests, person_messages),
    *(opening, credentials, report),
)
SITES = Path(ledger.__file__).parent / "sites"


def buf(*arguments: str) -> bytes:
    beside_python = shutil.which("buf", path=str(Path(sys.executable).parent))
    done = subprocess.run([beside_python or "buf", *arguments], cwd=PROTO, capture_output=True, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr).decode()
    return done.stdout


@cache
def pool() -> DescriptorPool:
    """Everything that buf compiles, google's own files included."""
    files = descriptor_pb2.FileDescriptorSet.FromString(buf("build", "-o", "-"))
    found = DescriptorPool()
    for file in files.file:
        found.Add(file)  # type: ignore[no-untyped-call]
    return found


def option(descriptor: Any, options: str, name: str) -> str:
    """One of our own options of a field or an enum value."""
    kind = message_factory.GetMessageClass(pool().FindMessageTypeByName(f"google.protobuf.{options}"))
    read = kind.FromString(descriptor.GetOptions().SerializeToString())
    extension = pool().FindExtensionByName(f"{PACKAGE}.{name}")
    return str(read.Extensions[extension])


def own_files() -> list[Any]:
    names = sorted(path.relative_to(PROTO).as_posix() for path in PROTO.glob("consentledger/v1/*.proto"))
    return [pool().FindFileByName(name) for name in names]


MESSAGES: dict[str, Descriptor] = {name: m for file in own_files() for name, m in file.message_types_by_name.items()}
ENUMS: dict[str, EnumDescriptor] = {name: e for file in own_files() for name, e in file.enum_types_by_name.items()}
STRUCTS: dict[str, type[msgspec.Struct]] = {
    kind.__name__: kind
    for module in MODULES
    for kind in vars(module).values()
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct) and kind.__struct_fields__
}


def words(enum: str) -> set[str]:
    return {option(value, "EnumValueOptions", "word") for value in ENUMS[enum].values if value.number}


def test_the_contract_is_linted_and_formatted() -> None:
    buf("lint")
    assert buf("format", "--diff") == b""


def test_every_struct_has_a_message_and_every_message_a_struct() -> None:
    assert set(STRUCTS) == set(MESSAGES)


def test_every_word_of_an_enumeration_is_written_once() -> None:
    for name, enum in ENUMS.items():
        values = [value for value in enum.values if value.number]
        assert len(words(name)) == len(values)
        assert "" not in words(name)


def unwrap(hint: Any) -> tuple[Any, bool]:
    """A type without its constraints, and whether it may be missing. Several kinds of text are text."""
    if typing.get_origin(hint) is typing.Annotated:
        return unwrap(typing.get_args(hint)[0])
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        inner = [one for one in typing.get_args(hint) if one is not type(None)]
        may_miss = len(inner) < len(typing.get_args(hint))
        if len(inner) == 1:
            return unwrap(inner[0])[0], may_miss
        return (str if all(map(is_text, inner)) else hint), may_miss
    return hint, False


def is_text(hint: Any) -> bool:
    kind, _ = unwrap(hint)
    return typing.get_origin(kind) is typing.Literal or (isinstance(kind, type) and issubclass(kind, str))


def check_value(hint: Any, field: FieldDescriptor, of: FieldDescriptor) -> None:
    """One value (an element, where the member holds several) against `field`; the options stand on `of`."""
    kind, _ = unwrap(hint)
    if typing.get_origin(kind) is typing.Literal:
        assert field.type == FieldDescriptor.TYPE_STRING
        assert set(typing.get_args(kind)) - {""} == words(option(of, "FieldOptions", "words_of"))
    elif isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        assert field.message_type == MESSAGES[kind.__name__]
    elif typing.get_origin(kind) in (typing.Union, types.UnionType):
        assert field.message_type.full_name == "google.protobuf.Value"
    else:
        assert field.type in next(types for scalar, types in SCALARS.items() if issubclass(kind, scalar))
        assert not option(of, "FieldOptions", "words_of")


def check_member(hint: Any, default: Any, field: FieldDescriptor) -> None:
    """Type and cardinality of one member."""
    kind, may_miss = unwrap(hint)
    made_of = option(field, "FieldOptions", "made_of")
    if typing.get_origin(kind) is dict:
        key, value = typing.get_args(kind)
        assert unwrap(key)[0] is str
        entry = field.message_type
        assert entry is not None
        assert entry.GetOptions().map_entry
        assert entry.fields_by_name["key"].type == FieldDescriptor.TYPE_STRING
        inner = entry.fields_by_name["value"]
        if made_of:
            assert inner.message_type.full_name == "google.protobuf.Struct"
            assert unwrap(typing.get_args(unwrap(value)[0])[1])[0] is STRUCTS[made_of]
        else:
            check_value(value, inner, field)
    elif typing.get_origin(kind) in (list, tuple):
        assert field.is_repeated
        assert not (field.message_type and field.message_type.GetOptions().map_entry)
        element = typing.get_args(kind)[0]
        if made_of:
            assert field.message_type.full_name == "google.protobuf.Value"
            assert STRUCTS[made_of] in typing.get_args(element)
        else:
            check_value(element, field, field)
    else:
        assert not field.is_repeated
        assert not made_of
        # What is left out at another value than protobuf's own default needs presence, like what may be missing.
        own_default = default is not msgspec.NODEFAULT and bool(default)
        assert field.has_presence == (may_miss or own_default or field.message_type is not None)
        check_value(hint, field, field)


@pytest.mark.parametrize("name", sorted(STRUCTS))
def test_members_have_the_same_name_type_and_cardinality(name: str) -> None:
    struct, message = STRUCTS[name], MESSAGES[name]
    hints = typing.get_type_hints(struct, include_extras=True)
    members = {one.encode_name: (hints[one.name], one.default) for one in msgspec.structs.fields(struct)}
    fields = {field.json_name: field for field in message.fields}
    assert set(members) == set(fields)
    for member, (hint, default) in members.items():
        check_member(hint, default, fields[member])


TIME = "2026-11-21T03:00:00.000Z"
ID = "01980000-0000-7000-8000-000000000001"
VISITOR = "v" * 22
EVENT = event.Event(
    id=ID,
    site="weco.nexaxt.com",
    type="consent.given",
    visitor=VISITOR,
    decisions={"analytics": "granted", "marketing": "denied"},
    action="customize",
    policy_version="1.0",
    language="ru",
    gpc=True,
    occurred_at="2026-11-21T03:00:00.000Z",
)
RECEIPT = messages.Receipt(ID, "s.example", 2**53 - 1, "2026-11-21T03:00:00.000Z", "00", "AA==", "AA==", "AA==", "s:1")
PROBLEM = messages.Problem("/problems/x", "X", 422, "Do y.", "/decisions/a~1b", RECEIPT)
CREDENTIALS = credentials.SiteKeys("00", "s.example+00000000+AA==", "pk_a", "sk_b")
REVIEW = messages.CookieReview("s.example", 1, "counsel", "2026-11-21T03:00:00.000Z", "1.0", "0" * 64, 2, 1)
COOKIES = [
    messages.DeclaredCookie("analytics", "cookie", True, "_ga", None, {"en": "A"}, "2026-11-01", "2026-11-21", 9),
    messages.DeclaredCookie("necessary", "pixel", False, description={"en": "The session"}),
]
UNDECLARED = messages.UndeclaredCookie("pixel", "p.gif", "2026-11-21", "2026-11-21", 1)
CERTIFIED = certificate.Certificate(
    *(
        certificate.FORMAT,
        "s.example",
        "ledger.example/s.example",
        "0" * 64,
        "s.example+00+AA==",
        ID,
        "visitor",
        "hold",
    ),
    *("legal_order", "0" * 64, "s.example.admin-log:3", *4 * ["2026-11-21T03:00:00.000Z"]),
    published_at="2026-11-21T03:00:00.000Z",
    events=7,
    entries=[
        certificate.CertifiedEntry(
            *(9, "2026-11-21T03:00:00.000Z", 7, ["1-3", "5-8"], ["0" * 64], "AA==", "AA==", "AA==", "proof\n")
        )
    ],
    kept=[certificate.CertifiedKept(4, "2031-11-21T03:00:00.000Z", ["terms"])],
    held=7,
    held_until="2029-11-21T03:00:00.000Z",
    marks=[certificate.CertifiedMark("*", "2029-11-21T03:00:00.000Z")],
    blocked_until="2026-11-28T03:00:00.000Z",
    rewritten_at="2026-11-22T03:00:00.000Z",
    backups_until="2026-12-26T03:00:00.000Z",
    instruction="ticket 7",
    evidence_salt="AA==",
    consumers=[certificate.CertifiedConsumer("warehouse", "s.example:9", "2026-11-21T03:00:00.000Z", True)],
)
STEP = requests.RequestStep("refuse", "refused", "operator", "2026-11-21T03:00:00.000Z", "excessive", "s.example:7")
REQUEST = requests.RequestStatus(
    *("s.example", ID, "access", "refused", "2026-11-21T03:00:00.000Z", "2026-12-21T03:00:00.000Z", "0" * 64, [STEP]),
    *(True, "2026-11-22T03:00:00.000Z", False, VISITOR, "account-7", "DSR-1", "KZ", "DSR-1"),
    *(TIME, TIME),
)
REQUESTS: list[msgspec.Struct] = [
    STEP,
    REQUEST,
    requests.RequestInput(VISITOR, "access"),
    requests.RequestInput(VISITOR, id=ID),
    requests.RequestChallenge(ID, "ledger.test/s.example", "n" * 80, "2026-11-21T03:00:00.000Z"),
    requests.RequestProof("n" * 80, "A" * 43 + "=", "A" * 86 + "=="),
    requests.RequestRegistration("erasure", account="account-7", contact="DSR-1", region="KZ", identified=True),
    requests.RequestStepInput("instruct", "DSR-1", level="hold"),
    requests.RequestStepInput("extend", "DSR-1", "complexity", until=TIME),
    requests.RequestProven(REQUEST, "token", "2026-11-21T03:00:00.000Z"),
    requests.RequestList("s.example", [REQUEST], "1.2"),
    requests.RequestDownload("html", "en"),
    requests.RequestNotice(
        *(f"{ID}-3", "request.forwarded", "s.example", ID, "access", "2026-11-21T03:00:00.000Z"),
        *("2026-12-21T03:00:00.000Z", "0" * 64, "DSR-1", "KZ"),
    ),
]
EXAMPLES: list[msgspec.Struct] = [
    erasures.ErasureInput("subject_request", "ticket-7", VISITOR),
    erasures.ErasureInput("legal_order", "court-3", None, "account-1", "hold", "0" * 64, ID, "P3Y"),
    erasures.ErasureLift("ticket-8", "0" * 64),
    erasures.ErasureStatus(
        *("s.example", ID, "hold", "legal_order", "erased", TIME, TIME, "0" * 64, "s.example.admin-log:7", TIME, 2),
        [erasures.ErasureEntry(9, "s.example:9", TIME, 2)],
        [erasures.ErasureKept(5, TIME, ["terms"])],
        *(2, TIME, [erasures.ErasureMark("*", TIME)], TIME, 1),
    ),
    erasures.ErasureEntry(9, "s.example:9", TIME, 2),
    erasures.ErasureKept(5, TIME, ["terms"]),
    erasures.ErasureMark("*", TIME),
    erasures.HeldOpening(9, "AA==", "AA==", "AA=="),
    REVIEW,
    *COOKIES,
    UNDECLARED,
    messages.CookiesObserved(["_ga", "theme"], "localStorage"),
    messages.CookiesObserved(["_ga"]),
    messages.CookiesKept("s.example", "cookie", ["_ga", "abc_*"], 1),
    messages.CookieInventory(
        *("s.example", "1.0", "0" * 64, COOKIES, [UNDECLARED], REVIEW, "P30D", "2026-12-21T03:00:00.000Z", 60)
    ),
    messages.CookieReviewInput("data protection officer", "0" * 64),
    EVENT,
    event.EventInput("consent.withdrawn", VISITOR, {"*": "denied"}, "withdraw", id=ID, component="settings"),
    event.ErasureRecord("s.example", "legal_order", "2026-11-21T03:00:00.000Z", "AA==", "order 7"),
    admin_act.AdminAct(
        *(ID, "s.example.admin-log", "erasure.executed", "ada", "operator", "2026-11-21T03:00:00.000Z", "admin.act"),
        instruction="order 7",
        details={"reason": "legal_order", "evidence": "0" * 64, "count": "2"},
        address="192.0.2.7",
        flagged="unclear",
    ),
    RECEIPT,
    msgspec.structs.replace(RECEIPT, seq=0, proof="c2sp.org/tlog-proof@v1\n"),
    messages.ReceiptMinimal(ID, "s.example", 7, "s.example:7"),
    messages.ConsistencyProof("s.example", 4, 2**53 - 1, ["AA=="]),
    messages.ConsistencyProof("s.example", 4, 4, []),
    PROBLEM,
    messages.Problem("/problems/x", "X", 404, "Look elsewhere."),
    messages.BatchResult(1, 201, messages.ReceiptMinimal(ID, "s.example", 7, "s.example:7"), replayed=True),
    messages.BatchResult(2, 422, problem=PROBLEM),
    messages.PurposeDecision(decision="granted", reason="opt_out_default", ask=True, notify=False),
    messages.Consent(
        site="s.example",
        visitor=VISITOR,
        position="s.example:7",
        decisions={
            "analytics": messages.PurposeDecision(
                decision="denied",
                status="ConsentWithdrawn",
                reason="withdrawn",
                ask=False,
                notify=False,
                regime="opt-in",
                seq=2**52,
            )
        },
    ),
    messages.CheckVisitor(VISITOR, "KZ-ALA"),
    messages.CheckInput([VISITOR, messages.CheckVisitor(VISITOR, "DE")], ["analytics"], "2026-11-21T03:00:00Z"),
    messages.CheckAnswer("denied", "never_asked"),
    messages.CheckResults("s.example:7", {VISITOR: {"analytics": messages.CheckAnswer("denied", "never_asked")}}),
    messages.HistoryItem(2, "2026-11-21T03:00:00.000Z", EVENT),
    messages.History("s.example", VISITOR, [messages.HistoryItem(2, "2026-11-21T03:00:00.000Z", EVENT)], "c"),
    messages.History("s.example", VISITOR, []),
    CERTIFIED,
    *(CERTIFIED.kept[0], CERTIFIED.marks[0], CERTIFIED.consumers[0], CERTIFIED.entries[0]),
    messages.ErasuresConfirmInput("warehouse", "s.example:7"),
    messages.ErasuresConfirmed("s.example", "warehouse", "s.example:7", "2026-11-21T03:00:00.000Z"),
    messages.DownloadInput("person", VISITOR, "html", "kk"),
    messages.DownloadInput("site"),
    messages.Download("http://127.0.0.1:8080/downloads/x", "2026-11-21T03:00:00.000Z"),
    person_messages.PersonEvent(2, "2026-11-21T03:00:00.000Z", EVENT, RECEIPT),
    person_messages.PersonExport(
        *("consent-ledger/v1 person-export", "s.example", VISITOR, "2026-11-21T03:00:00.000Z", "00", "s.example+0+A"),
        messages.Consent("s.example", VISITOR, "s.example:7", {}),
        events=[person_messages.PersonEvent(2, "2026-11-21T03:00:00.000Z", EVENT, RECEIPT)],
    ),
    messages.PolicyPublished("s.example", "1.0", "00", 1, "s.example:1"),
    messages.PolicyItem("1.0", "2026-11-21T03:00:00.000Z", "2026-11-21T03:00:00.000Z", 2**52, "00", False),
    messages.PolicyList(
        "s.example",
        [messages.PolicyItem("1.0", "2026-11-21T03:00:00.000Z", "2026-11-21T03:00:00.000Z", 1, "00", True)],
        "1",
    ),
    messages.PolicyList("s.example", []),
    messages.PolicyChange("controller.name", "the controller: B instead of A", None, True),
    messages.AskedAgain("analytics", ["a new recipient: PostHog (EU)"]),
    messages.PolicyDiff(
        "s.example",
        "1.1",
        [messages.PolicyChange("purposes.analytics.recipients", "a new recipient: PostHog (EU)", "analytics")],
        "1.0",
        [messages.AskedAgain("analytics", ["a new recipient: PostHog (EU)"])],
        {"marketing": "It is the same company under another name"},
    ),
    messages.DocumentStored("00", "image/png", 2**21),
    messages.ReadinessCheck(False, "the database does not answer"),
    messages.Readiness(True, False, {"database": messages.ReadinessCheck(False, "it does not answer")}),
    opening.Opening(7, bytes(32), b"{}"),
    CREDENTIALS,
    credentials.Credentials("http://127.0.0.1:1", "postgresql://", "nats://", {"s.example": CREDENTIALS}),
    report.FaultFound(9, "twice", 2**52),
    report.NoteMade(4, "the root key was asserted by the log itself"),
    report.DifferenceFound("state", "the row of visitor 00ff… is not what its events fold to"),
    report.Live(9, 3, 1, (report.DifferenceFound("tile", "tile/0/000 is another one"),)),
    report.Counts(genesis=1, events=7),
    report.MismatchFound("s.example", 7, "orphan", "it names no act"),
    report.ActPending("s.example.admin-log:3", "erasure.ordered", 2),
    report.Admin(
        report.Report("sound", 0, 0.25),
        *(1, 2, 1, 4, 1, (report.MismatchFound("s.example", 7, "orphan", "it names no act"),)),
        *(1, (report.ActPending("s.example.admin-log:3", "erasure.ordered", 2),), 1),
    ),
    report.Report("fault", 1, 0.25, root_key="pinned", size=9, faults=(report.FaultFound(2, "it is missing"),)),
]
EXAMPLES += REQUESTS
DOCUMENTS = [path.read_bytes() for path in sorted(SITES.glob("*.yaml"))]


def test_every_struct_has_an_example() -> None:
    of_documents = {name for name, kind in STRUCTS.items() if kind.__module__ == document.__name__}
    assert {type(example).__name__ for example in EXAMPLES} == set(STRUCTS) - of_documents


@pytest.mark.parametrize("source", DOCUMENTS, ids=lambda source: source.split(b"\nsite: ")[1].split()[0].decode())
@pytest.mark.parametrize("material", [True, False, ("analytics",)], ids=["all", "none", "one"])
def test_a_published_document_goes_through_protobuf_and_comes_back_the_same(source: bytes, material: Any) -> None:
    parsed = parse_site_document(source)
    parsed = msgspec.structs.replace(parsed, policy=msgspec.structs.replace(parsed.policy, material=material))
    published = encode_document(parsed)
    message = json_format.Parse(published, message_factory.GetMessageClass(MESSAGES["SiteDocument"])())
    printed = json_format.MessageToDict(message, descriptor_pool=pool())
    assert encode_document(decode_document(json.dumps(printed).encode())) == published


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda e: type(e).__name__)
def test_json_goes_through_protobuf_and_comes_back_the_same(example: msgspec.Struct) -> None:
    """Protobuf's printer writes 64-bit integers as strings, and every scalar that has no presence when told to.

    Its maps have no order, so the texts are compared as values.
    """
    written = msgspec.json.encode(example)
    kind = message_factory.GetMessageClass(MESSAGES[type(example).__name__])
    message = json_format.Parse(written, kind(), descriptor_pool=pool())
    printed = json_format.MessageToDict(message, always_print_fields_with_no_presence=True, descriptor_pool=pool())
    back = msgspec.convert(printed, type(example), strict=False)
    assert back == example
    assert json.loads(msgspec.json.encode(back)) == json.loads(written)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda e: type(e).__name__)
def test_no_message_holds_null(example: msgspec.Struct) -> None:
    assert b"null" not in msgspec.json.encode(example)


def test_an_unknown_member_is_refused_by_both() -> None:
    text = json.dumps({"type": "consent.given", "visitors": VISITOR})
    with pytest.raises(json_format.ParseError):
        json_format.Parse(text, message_factory.GetMessageClass(MESSAGES["EventInput"])(), descriptor_pool=pool())
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(text, type=event.EventInput)
