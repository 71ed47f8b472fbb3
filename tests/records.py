"""Dossiers built in memory, for tests of what records of consent say: a policy that says much, and many events."""

from __future__ import annotations

from typing import Any

from ledger.core import entry
from ledger.core.document import SiteDocument
from ledger.core.event import Event, encode_payload
from ledger.core.policy import parse_site_document
from ledger.messages import PurposeDecision, Receipt
from ledger.records.dossier import Dossier
from tests.logbuilder import LogBuilder
from tests.receipts import receipt_of

SITE = "weco.nexaxt.com"
VISITOR = "3q2-7wAAAAAAAAAAAAAAAA"
ACCOUNT = "0123456789abcdef0123456789abcdef"
SHOWN = "ab" * 32
BASE_URL = "https://ledger.example"
EVENT_ID = "01980000-0000-7000-8000-0000000000aa"

POLICY = """
site: weco.nexaxt.com
controller:
  name: NEXA IKS TI LLP
  bin: "230940021527"
  country: KZ
  address: 050013, Almaty, Seifullin Avenue 617
  email: dpo@nexaxt.com
  phone: "+7 700 000 00 00"
languages: [en, ru, kk]
origins: [https://weco.nexaxt.com]
policy: {version: "1.0", effectiveAt: 2026-01-01, url: https://weco.nexaxt.com/cookies}
laws: [Kazakhstan No 94-V]
regimes: {default: opt-in}
renewAfter: P12M
storedIn: [KZ]
contacts:
  - about: {en: Data protection, ru: Защита данных, kk: Деректерді қорғау}
    email: privacy@nexaxt.com
authorities:
  - name: {en: Ministry of Digital Development, ru: Министерство цифрового развития, kk: Цифрлық даму министрлігі}
    url: https://egov.example
    regions: [KZ]
purposes:
  necessary:
    required: true
    title: {en: Necessary, ru: Необходимые, kk: Қажетті}
    description: {en: Nothing works without them., ru: Без них сайт не работает., kk: Онсыз жұмыс істемейді.}
  analytics:
    title: {en: Analytics, ru: Аналитика, kk: Талдау}
    description: {en: Counts visits., ru: Считает посещения., kk: Келулерді санайды.}
    dpv: [dpv:ServiceOptimisation]
    laws: [ePrivacy]
    retention: P14M
    data:
      pages: {title: {en: Pages visited, ru: Посещённые страницы, kk: Ашылған беттер}, dpv: pd:BrowsingBehaviour}
    recipients:
      - {name: Google Ireland, role: processor, region: IE, transfer: contractual_clauses}
    cookies:
      - name: _ga
        description: {en: A number for this browser, ru: Номер этого браузера, kk: Осы браузердің нөмірі}
        duration: P24M
        party: third
  marketing:
    title: {en: Marketing, ru: Маркетинг, kk: Маркетинг}
    description: {en: Shows advertisements., ru: Показывает рекламу., kk: Жарнама көрсетеді.}
    publication: true
  terms:
    kind: acceptance
    document: "0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f"
    withdrawable: false
    withdrawalBar: {en: A contract stands on it., ru: На этом основан договор., kk: Шарт осыған негізделген.}
    title: {en: Terms of use, ru: Условия, kk: Шарттар}
    description: {en: Version 3 of the terms., ru: Условия третьей редакции., kk: Шарттардың үшінші редакциясы.}
  abroad:
    kind: transfer
    destination: DE
    title: {en: Transfer to Germany, ru: Передача в Германию, kk: Германияға беру}
    description: {en: Support is answered there., ru: Там отвечает поддержка., kk: Қолдау сонда.}
  age:
    kind: attestation
    minimumAge: {default: 16}
    title: {en: Sixteen or older, ru: Мне есть 16 лет, kk: Маған 16 жас}
    description: {en: You say how old you are., ru: Вы говорите о возрасте., kk: Жасыңызды айтасыз.}
"""


def document(policy: str = POLICY) -> SiteDocument:
    return parse_site_document(policy.encode())


def event(**members: Any) -> Event:
    """A grant of analytics and a denial of marketing, as a visitor makes it; a member that is None is left out."""
    given: dict[str, Any] = {
        "id": EVENT_ID,
        "site": SITE,
        "type": "consent.given",
        "visitor": VISITOR,
        "decisions": {"analytics": "granted", "marketing": "denied"},
        "action": "customize",
        "policy_version": "1.0",
        "language": "en",
        "shown": SHOWN,
        "region": "KZ",
        **members,
    }
    return Event(**{name: value for name, value in given.items() if value is not None})


def denied(**members: Any) -> Event:
    return event(**{"type": "consent.refused", "decisions": {"analytics": "denied", "marketing": "denied"}} | members)


EVENTS: dict[str, Event] = {
    "grant": event(decisions={"analytics": "granted", "marketing": "granted"}, action="accept_all"),
    "refusal": denied(action="only_necessary"),
    "withdrawal": denied(type="consent.withdrawn", decisions={"*": "denied"}, action="withdraw"),
    "partial": event(),
    "account scope": event(account=ACCOUNT),
    "import": event(action="import", original="visitor;analytics\n1;yes", authentication="secret", shown=None),
    "acceptance": event(decisions={"terms": "granted"}, shown="0f" * 32),
    "transfer": event(decisions={"abroad": "granted"}),
    "attestation": event(decisions={"age": "granted"}),
    "guardian": event(action="guardian", authentication="secret"),
    "under a wall": event(conditional=True),
    "citing nothing": denied(policy_version=None, shown=None, language=None, region=None),
}
"""Every kind of event that holds a choice."""

ENDED = {
    "expired": event(
        type="consent.expired",
        decisions=None,
        action=None,
        authentication="ledger",
        lapsed={"analytics": 3},
        occurred_at="2026-11-21T03:00:00.000Z",
        shown=None,
    ),
    "invalidated": event(
        type="consent.invalidated", decisions=None, action=None, authentication="ledger", lapsed={"analytics": 3}
    ),
    "dismissed": event(type="consent.dismissed", decisions=None, action="dismiss"),
}
CHOICELESS = {
    "seen": event(type="notice.seen", decisions=None, action=None),
    "linked": event(type="account.linked", decisions=None, action=None, authentication="secret", account=ACCOUNT),
}


def after_of(what: Event, seq: int) -> dict[str, PurposeDecision]:
    """What the ledger answers after such an event, as far as records look at it."""
    answers = {}
    for purpose, answer in what.decisions.items():
        granted = answer == "granted"
        answers[purpose] = PurposeDecision(
            decision=answer,
            reason="granted" if granted else "refused",
            ask=False,
            notify=False,
            status="ConsentGiven" if granted else "ConsentRefused",
            regime="opt-in",
            valid_until="2027-11-21T03:00:00.000Z" if granted else None,
            policy_version="1.0",
            seq=seq,
        )
    return answers


def dossier(what: Event | None = None, policy: SiteDocument | None = None, *, proven: bool = True) -> Dossier:
    """The dossier of an event that is an entry of a log in memory."""
    what, policy = what or event(), policy or document()
    log = LogBuilder(f"ledger.example/{SITE}")
    log.policy()
    seq = log.append_opened(entry.Kind.EVENT, encode_payload(what))
    log.events(3)
    raw = receipt_of(log, seq)
    receipt = Receipt(
        id=what.id,
        site=what.site,
        seq=seq,
        recorded_at=raw["recordedAt"],
        leaf_hash=raw["leafHash"],
        entry=raw["entry"],
        salt=raw["salt"],
        payload=raw["payload"],
        position=raw["position"],
        proof=raw["proof"] if proven else "",
    )
    return Dossier(
        receipt=receipt,
        event=what,
        recorded_ms=entry.decode(log.entries[seq]).ms,
        document=policy,
        document_sha256="cd" * 32,
        cited=what.policy_version is not None,
        in_force="1.0",
        after=after_of(what, seq),
        log_vkey=str(log.log_vkey),
        base_url=BASE_URL,
        generated_ms=entry.decode(log.entries[seq]).ms + 60_000,
    )
