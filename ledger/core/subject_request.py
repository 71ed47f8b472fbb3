"""What a person may ask for, and the way that such a request takes: its states, the steps between them, and who may
take each.

    received → proven → forwarded → instructed → answered
        any of the first four → refused, or the same with a later deadline (once)

Nothing is answered but on the controller's instruction (D13), so instructing, refusing and putting off name one. No
free text is kept (D15): why a request is refused or put off is a word, an instruction a short reference into the
controller's own files. Deadlines are core/deadlines, how a browser proves whose request it is core/challenge.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import Annotated, Literal, NamedTuple, get_args

import msgspec
from msgspec import Struct

from ledger.core import forms
from ledger.core.encoding import encode_time
from ledger.core.errors import InputRefused, Malformed
from ledger.core.event import AccountId, EventId, Region, Time, VisitorId

Kind = Literal["access", "erasure", "portability", "objection", "correction"]
State = Literal["received", "proven", "forwarded", "instructed", "answered", "refused"]
Step = Literal["receive", "prove", "identify", "forward", "extend", "instruct", "answer", "refuse"]
"""`prove`: the browser that holds the visitor's key answered a challenge. `identify`: who asks was found out otherwise,
as for a letter. `extend`: the answer is put off."""
OperatorStep = Literal["identify", "forward", "extend", "instruct", "answer", "refuse"]
Party = Literal["visitor", "operator", "ledger"]
Refusal = Literal[
    "identity_unproven",
    "manifestly_unfounded",
    "excessive",
    "legal_obligation",
    "legal_claims",
    "rights_of_others",
    "not_applicable",
    "nothing_held",
    "withdrawn_by_person",
]
"""Why a request is refused (GDPR articles 11(2), 12(5), 15(4), 17(3), 20(4) and 21(1) know such reasons)."""
Delay = Literal["complexity", "number_of_requests"]
"""Why an answer is put off: what GDPR article 12(3) lets be a reason."""
Reason = Literal[Refusal, Delay]
Outcome = Literal["provided", "erased", "restricted", "denial_recorded", "recorded_anew"]

ANSWERS: Mapping[Kind, Outcome] = {
    "access": "provided",
    "portability": "provided",
    "erasure": "erased",
    "objection": "denial_recorded",
    "correction": "recorded_anew",
}
"""What it means that a request was answered. An objection is the person's own denial, and what is recorded is never
rewritten: who wants a choice corrected makes it anew."""
DOWNLOADABLE: frozenset[Kind] = frozenset({"access", "portability"})

Reference = Annotated[str, forms.REFERENCE.meta]
"""Where something is found in the controller's own files, like `DSR-2026/117`: of a form that holds no sentence. Orders
of erasures, and whatever else is an act that is never erased, name their instruction so too."""

_OPEN: frozenset[State] = frozenset({"received", "proven", "forwarded", "instructed"})
_STEPS: Mapping[Step, tuple[frozenset[State], State | None, frozenset[Party]]] = {
    "prove": (frozenset({"received"}), "proven", frozenset({"visitor"})),
    "identify": (frozenset({"received"}), "proven", frozenset({"operator"})),
    "forward": (frozenset({"proven"}), "forwarded", frozenset({"operator", "ledger"})),
    "extend": (_OPEN, None, frozenset({"operator"})),
    "instruct": (frozenset({"forwarded"}), "instructed", frozenset({"operator"})),
    "answer": (frozenset({"instructed"}), "answered", frozenset({"operator", "ledger"})),
    "refuse": (_OPEN, "refused", frozenset({"operator"})),
}
"""From which states, to which (None: it stays), and by whom."""
INSTRUCTED_STEPS: frozenset[Step] = frozenset({"extend", "instruct", "refuse"})
"""Steps that name the controller's instruction."""
_REASONS: Mapping[Step, tuple[Reason, ...]] = {"refuse": get_args(Refusal), "extend": get_args(Delay)}
"""Steps that name a reason, and which those are."""


class Taken(NamedTuple):
    """A step as it is to be taken. `state` is where it leads."""

    step: Step
    state: State
    by: Party
    reason: Reason | None = None
    instruction: str | None = None


def take(state: State, step: Step, by: Party, *, reason: Reason | None = None, instruction: str | None = None) -> Taken:
    """The step, where it is allowed from `state`; `InputRefused` says what would be."""
    if step not in _STEPS:
        raise InputRefused("request-step-refused", f"A request is not led on by {step!r}.", "/step")
    before, after, parties = _STEPS[step]
    if by not in parties:
        raise InputRefused("request-step-refused", f"{step} is a step of the {' or '.join(sorted(parties))}.", "/step")
    if state not in before:
        detail = f"The request is {state}; what can be done with it now: {', '.join(allowed(state, by)) or 'nothing'}."
        raise InputRefused("request-step-refused", detail, "/step")
    if (step in INSTRUCTED_STEPS) != (instruction is not None):
        needs = step in INSTRUCTED_STEPS
        detail = f"{step} {'needs the reference of the controller’s' if needs else 'takes no'} instruction."
        raise InputRefused("invalid-request", detail, "/instruction")
    reasons = _REASONS.get(step)
    if reason not in (reasons or (None,)):
        wants = "takes no reason" if reasons is None else f"needs a reason: {', '.join(reasons)}"
        raise InputRefused("invalid-request", f"{step} {wants}.", "/reason")
    if instruction is not None and not forms.REFERENCE.fits(instruction):
        raise InputRefused("invalid-request", f"instruction is {forms.REFERENCE.expected}.", "/instruction")
    return Taken(step, after or state, by, reason, instruction)


def allowed(state: State, by: Party) -> tuple[Step, ...]:
    """The steps that lead on from a state."""
    return tuple(step for step, (before, _, parties) in _STEPS.items() if state in before and by in parties)


class Dates(NamedTuple):
    """When a request is to be answered, in unix milliseconds: as it stands now, as it stood before it was put off, and
    the latest to which it may be."""

    due_ms: int
    extended_from_ms: int | None
    extendable_to_ms: int | None

    def extended(self, until_ms: int | None, now_ms: int) -> int:
        """When it is due once it is put off, to the latest moment where `until_ms` is None; else `InputRefused`.

        GDPR article 12(3): once, and the person is told within the term that they were promised first.
        """
        latest_ms = self.extendable_to_ms
        if self.extended_from_ms is not None:
            detail = f"The answer was put off already, from {encode_time(self.extended_from_ms)}: that is done once."
        elif latest_ms is None:
            detail = "The site document leaves no room to put this answer off (answerExtension)."
        elif now_ms > self.due_ms:
            detail = f"The answer was due on {encode_time(self.due_ms)}: the person had to be told by then."
        elif until_ms is not None and not self.due_ms < until_ms <= latest_ms:
            detail = f"until lies after {encode_time(self.due_ms)}, and not after {encode_time(latest_ms)}."
            raise InputRefused("invalid-request", detail, "/until")
        else:
            return latest_ms if until_ms is None else until_ms
        raise InputRefused("request-step-refused", detail, "/step")


class Details(Struct, frozen=True, rename="camel", forbid_unknown_fields=True, omit_defaults=True):
    """What a request says of a person: sealed where it is kept, forgotten with the person, and the original of the
    evidence. `salt` (32 random bytes, hex) keeps the evidence from telling what it was made of. `contact`: where the
    controller finds how to reach the person. `region`: as the request was received."""

    site: str
    id: EventId
    kind: Kind
    received_at: Time
    salt: str
    visitor: VisitorId | None = None
    account: AccountId | None = None
    contact: Reference | None = None
    region: Region | None = None


_encoder = msgspec.json.Encoder(order="sorted")
_decoder = msgspec.json.Decoder(Details)


def encode_details(details: Details) -> bytes:
    """The exact bytes that are sealed, and of which the evidence is made."""
    return _encoder.encode(details)


def decode_details(data: bytes) -> Details:
    try:
        details = _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Malformed("these are not the details of a request") from error
    if encode_details(details) != data:
        raise Malformed("the details of a request are not in their one encoding")
    return details


def evidence_of(details: bytes) -> bytes:
    """What stays of a request when its details are gone: 32 bytes that fit these details alone, and tell nothing."""
    return sha256(b"consent-ledger/v1 request\n" + details).digest()
