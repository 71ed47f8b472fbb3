"""What changed in one purpose from a version of a policy to the next, in words, and whether it asks visitors again.

Versions as wholes are compared in core/policy_diff. A change is material where a visitor who agreed to the earlier text
has not agreed to this: more is gathered, it is kept longer or given to others, or the protection is weaker. What is
taken away is not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple, TypeVar

from ledger.core.document import Cookie, LegalBasis, Purpose, Recipient, SiteDocument, Texts
from ledger.core.duration import Duration
from ledger.core.periods import is_longer, period
from ledger.core.regions import COUNTRIES, DEFAULT, GROUPS, REGIMES, Regime, regime_in

Item = TypeVar("Item", Cookie, Recipient)

_KINDS = {
    "consent": "consent to processing",
    "acceptance": "acceptance of a document",
    "transfer": "consent to a transfer",
    "attestation": "a statement of age",
}
_MAX_REGIONS_NAMED = 12


class Change(NamedTuple):
    """One difference. `purpose` None: it is of the site as a whole, and if material, then for every purpose."""

    purpose: str | None
    path: str
    what: str
    material: bool = False


class Changes:
    """Changes of one purpose, or of the site, as they are found."""

    def __init__(self, purpose: str | None, path: str, *, counts: bool = True) -> None:
        """`counts`: False where nothing is material, for nobody is asked or nothing is gathered."""
        self.found: list[Change] = []
        self._purpose, self._path, self._counts = purpose, path, counts

    def add(self, path: str, what: str, *, material: bool = False) -> None:
        """Note a change of the member at `path`, which is relative."""
        self.found.append(Change(self._purpose, f"{self._path}.{path}".lstrip("."), what, material and self._counts))

    def texts(self, path: str, name: str, before: Texts, after: Texts) -> None:
        """A text for people to read. That it reads otherwise is never material by itself."""
        for language in sorted({*before, *after}):
            old, new = before.get(language), after.get(language)
            if old != new:
                how = "is new" if old is None else "is gone" if new is None else "reads otherwise"
                self.add(f"{path}.{language}", f"{name} in {language} {how}")

    def terms(self, path: str, name: str, before: Sequence[str], after: Sequence[str], *, material: bool) -> None:
        """A list whose order says nothing. `material` is what a new term is."""
        for term in after:
            if term not in before:
                self.add(path, f"a new {name}: {term}", material=material)
        for term in before:
            if term not in after:
                self.add(path, f"no longer a {name}: {term}")
        if before != after and set(before) == set(after):
            self.add(path, f"in another order: {', '.join(after)}")

    def value(self, path: str, name: str, before: object, after: object, *, material: bool = False) -> None:
        """A single value, by what it was and is."""
        if before != after:
            how = instead(None if before is None else str(before), None if after is None else str(after))
            self.add(path, f"{name}: {how}", material=material)


def compare_purposes(before: SiteDocument, original: str, after: SiteDocument, name: str) -> list[Change]:
    """What distinguishes the purpose `name` of `after` from the purpose `original` of `before`, which it goes on with.

    `before` offers the original, `after` offers the purpose.
    """
    old, new = before.purposes[original], after.purposes[name]
    changes = Changes(name, f"purposes.{name}", counts=new.in_use and not (old.required and new.required))
    if original != name:
        changes.add("aliasOf", f"goes on with {original}, whose answers count for it")
    elif old.alias_of != new.alias_of:
        changes.value("aliasOf", "the purpose that it goes on with", old.alias_of, new.alias_of)
    _compare_standing(changes, old, new)
    changes.texts("title", "the title", old.title, new.title)
    changes.texts("description", "the description", old.description, new.description)
    _compare_cookies(changes, old.cookies, new.cookies)
    _compare_recipients(changes, old.recipients, new.recipients)
    _compare_data(changes, old, new)
    _compare_legal_bases(changes, old.legal_basis, new.legal_basis)
    rewritten = old.regimes != new.regimes  # perhaps into what the site's own table says already
    marked = before.suppress_for is not None
    _compare_regimes(changes, before.regimes_of(original), after.regimes_of(name), rewritten=rewritten, marked=marked)
    lasts = (before.renewal_of(original), after.renewal_of(name))
    _compare_periods(changes, old, new, *lasts)
    _compare_conditions(changes, old, new)
    return changes.found


def _compare_standing(changes: Changes, old: Purpose, new: Purpose) -> None:
    """What a grant means, and whether it is asked for at all."""
    if old.kind != new.kind:
        changes.add("kind", f"a grant means {_KINDS[new.kind]} instead of {_KINDS[old.kind]}", material=True)
    if old.required != new.required:
        what = "visitors are no longer asked: it is always on" if new.required else "visitors are asked now"
        changes.add("required", what, material=True)
    if old.in_use != new.in_use:
        what = "it is taken in use" if new.in_use else "it is no longer in use"
        changes.add("inUse", what, material=new.in_use)


def _compare_cookies(changes: Changes, before: Sequence[Cookie], after: Sequence[Cookie]) -> None:
    pairs, new, gone = _pair(before, after, _is_same_cookie)
    for cookie in new:
        party = " of a third party" if cookie.party == "third" else ""
        changes.add("cookies", f"a new {_thing(cookie)}{party}, {_life(cookie)}", material=True)
    for cookie in gone:
        changes.add("cookies", f"no longer: {_thing(cookie)}")
    for old, now in pairs:
        _compare_cookie(changes, old, now)
    if not new and not gone and all(old == now for old, now in pairs) and before != after:
        changes.add("cookies", "the cookies stand in another order")


def _compare_cookie(changes: Changes, old: Cookie, new: Cookie) -> None:
    path, thing = f"cookies.{_name(new)}", _thing(new)
    changes.texts(f"{path}.description", f"the description of {thing}", old.description, new.description)
    if (old.duration, old.inactivity) != (new.duration, new.inactivity):
        member = "inactivity" if new.inactivity else "duration"
        what = f"{thing}: {_life(new)} instead of {_life(old)}"
        if isinstance(old.duration, Duration) and isinstance(new.duration, Duration):
            what = f"{thing} lives {instead(period(old.duration), period(new.duration))}"
        changes.add(f"{path}.{member}", what, material=_lives_longer(old, new))
    if old.party != new.party:
        what = f"{thing} is of {'a third' if new.party == 'third' else 'the first'} party now"
        changes.add(f"{path}.party", what, material=new.party == "third")
    if old.conditional != new.conditional:
        what = "only where its tool is switched on" if new.conditional else "always, not only where it is switched on"
        changes.add(f"{path}.conditional", f"{thing} is set {what}")
    if old.clear_on_withdrawal != new.clear_on_withdrawal:
        what = "cleared on withdrawal" if new.clear_on_withdrawal else "no longer cleared on withdrawal"
        changes.add(f"{path}.clearOnWithdrawal", f"{thing} is {what}", material=not new.clear_on_withdrawal)


def _compare_recipients(changes: Changes, before: Sequence[Recipient], after: Sequence[Recipient]) -> None:
    pairs, new, gone = _pair(before, after, lambda old, now: old.name == now.name)
    for recipient in new:
        where = f" ({recipient.region})" if recipient.region else ""
        changes.add("recipients", f"a new recipient: {recipient.name}{where}", material=True)
    for recipient in gone:
        changes.add("recipients", f"no longer a recipient: {recipient.name}")
    for old, now in pairs:
        path, name = f"recipients.{now.name}", f"recipient {now.name}"
        changes.value(f"{path}.role", f"the role of {name}", old.role, now.role, material=True)
        changes.value(f"{path}.region", f"where {name} is", old.region, now.region, material=True)
        basis = f"on what the transfer to {name} rests"
        changes.value(f"{path}.transfer", basis, old.transfer, now.transfer, material=True)
    if not new and not gone and all(old == now for old, now in pairs) and before != after:
        changes.add("recipients", "the recipients stand in another order")


def _compare_data(changes: Changes, old: Purpose, new: Purpose) -> None:
    for key in sorted({*old.data, *new.data}):
        before, after = old.data.get(key), new.data.get(key)
        if before is None:
            changes.add(f"data.{key}", f"a new kind of data: {key}", material=True)
        elif after is None:
            changes.add(f"data.{key}", f"no longer a kind of data: {key}")
        else:
            changes.texts(f"data.{key}.title", f"the title of the data {key}", before.title, after.title)
            wider = before.dpv is not None and after.dpv is not None  # else only a term is given to it, or taken
            changes.value(f"data.{key}.dpv", f"the DPV term of the data {key}", before.dpv, after.dpv, material=wider)
    if old.publication != new.publication:
        what = "the data is made public" if new.publication else "the data is no longer made public"
        changes.add("publication", what, material=new.publication)
    # Where there were no terms before, what was meant all along gets its first ones.
    changes.terms("dpv", "DPV term", old.dpv, new.dpv, material=bool(old.dpv))
    changes.terms("consentMode", "consent-mode signal", old.consent_mode, new.consent_mode, material=True)
    changes.terms("laws", "law it rests on", old.laws, new.laws, material=False)


def _compare_legal_bases(changes: Changes, before: Mapping[str, LegalBasis], after: Mapping[str, LegalBasis]) -> None:
    """Where no basis is named it is consent."""
    for key in sorted({*before, *after}):
        old, new = _most_specific(before, key), _most_specific(after, key)
        stated_as = (before.get(key), after.get(key))
        if old != new:
            what = f"the legal basis in {_place(key)}: {_basis(new)} instead of {_basis(old)}"
            changes.add(f"legalBasis.{key}", what, material=True)
        elif stated_as[0] != stated_as[1]:
            how = f"named in words now ({_basis(new)})" if stated_as[0] is None else "no longer named by itself"
            changes.add(f"legalBasis.{key}", f"the legal basis in {_place(key)} is {how}")


def _most_specific(table: Mapping[str, LegalBasis], key: str) -> LegalBasis:
    country = key.partition("-")[0]
    wider = {"EU": ["EEA"], "UK": ["GB"]}.get(key) or [group for group, all_ in GROUPS.items() if country in all_]
    for name in (key, country, *wider, DEFAULT):
        if name in table:
            return table[name]
    return "consent"


def _compare_regimes(
    changes: Changes, before: Mapping[str, Regime], after: Mapping[str, Regime], *, rewritten: bool, marked: bool
) -> None:
    """By what holds in each place in the end, whichever key says so.

    `rewritten`: the purpose's own table differs. `marked`: each denial that was forgotten so far left its mark, also
    where silence was none.
    """
    if before == after and not rewritten:
        return
    moved = _moved(tuple(sorted(before.items())), tuple(sorted(after.items())))
    for (old, new), places in moved:
        weaker = REGIMES.index(new) > REGIMES.index(old)
        changes.add("regimes", f"{new} instead of {old} {_places(places)}", material=weaker)
    if not marked and any(old == "opt-in" for (old, _), _ in moved):
        # Where silence grants nothing a denial leaves a mark only if the document names how long (D4, N5).
        changes.add("regimes", "who refused and was forgotten since counts as silent: no suppressFor was named")
    if not moved:
        changes.add("regimes", "the regimes are written otherwise and mean the same")


@lru_cache(maxsize=64)  # most purposes have the site's table, and every place of the world is looked up in it
def _moved(
    before: tuple[tuple[str, Regime], ...], after: tuple[tuple[str, Regime], ...]
) -> tuple[tuple[tuple[Regime, Regime], tuple[str, ...]], ...]:
    """The places in which another regime holds, by what it was and is."""
    was, now = dict(before), dict(after)
    moved: dict[tuple[Regime, Regime], list[str]] = {}
    for place in (*sorted(COUNTRIES), *sorted(key for key in {*was, *now} if "-" in key)):
        old, new = regime_in(was, place), regime_in(now, place)
        if old != new:
            moved.setdefault((old, new), []).append(place)
    return tuple((pair, tuple(places)) for pair, places in sorted(moved.items()))


def _compare_periods(changes: Changes, old: Purpose, new: Purpose, lasted: Duration, lasts: Duration) -> None:
    """How long a grant lasts, how long the data is kept, how soon a refused visitor is asked again."""
    if lasts != lasted:
        what = f"a grant lasts {instead(period(lasted), period(lasts))}"
        changes.add("renewAfter", what, material=is_longer(lasts, lasted))
    elif old.renew_after != new.renew_after:
        changes.add("renewAfter", f"how long a grant lasts is written otherwise and means the same: {period(lasts)}")
    if old.retention != new.retention:
        kept, was = new.retention, old.retention
        longer = was is not None and (kept is None or is_longer(kept, was))
        unlimited = "with no period named"
        what = instead(period(was) if was else unlimited, period(kept) if kept else unlimited)
        changes.add("retention", f"the data is kept {what}", material=longer)
    records = (old.record_retention, new.record_retention)
    changes.value("recordRetention", "how long the record of an answer is kept", *records)
    if old.reask_after != new.reask_after:
        changes.add("reaskAfter", "how soon a visitor is asked again is another")


def _compare_conditions(changes: Changes, old: Purpose, new: Purpose) -> None:
    """On what a grant depends, and whether it can be taken back."""
    if old.withdrawable != new.withdrawable:
        what = "a grant can be taken back" if new.withdrawable else "a grant can no longer be taken back"
        changes.add("withdrawable", what, material=not new.withdrawable)
    changes.texts("withdrawalBar", "why a grant cannot be taken back", old.withdrawal_bar, new.withdrawal_bar)
    for need in (*new.needs, *(need for need in old.needs if need not in new.needs)):
        if need not in old.needs:
            changes.add("needs", f"a grant needs {need} now")
        elif need not in new.needs:  # grants that did not hold without it would begin to
            changes.add("needs", f"a grant no longer needs {need}", material=True)
    if set(old.needs) == set(new.needs) and old.needs != new.needs:
        changes.add("needs", "what a grant needs stands in another order")
    for key in sorted({*old.minimum_age, *new.minimum_age}):
        was, now = old.minimum_age.get(key), new.minimum_age.get(key)
        if was != now:
            # Whatever was stated, it was another age.
            age = instead(None if was is None else str(was), None if now is None else str(now))
            changes.add(f"minimumAge.{key}", f"the minimum age in {_place(key)}: {age}", material=True)
    changes.value("destination", "where it is transferred to", old.destination, new.destination, material=True)
    changes.value("document", "the document that is accepted", old.document, new.document, material=True)


def _pair(
    before: Iterable[Item], after: Iterable[Item], is_same: Callable[[Item, Item], bool]
) -> tuple[list[tuple[Item, Item]], list[Item], list[Item]]:
    """Which goes on as which, which are new, and which are gone. Equal ones first, for a name may stand twice."""
    unpaired, new = list(before), list(after)
    pairs = []
    for matches in (lambda a, b: a == b, is_same):
        for item in tuple(new):
            found = next((old for old in unpaired if matches(old, item)), None)
            if found is not None:
                unpaired.remove(found)
                new.remove(item)
                pairs.append((found, item))
    return pairs, new, unpaired


def _is_same_cookie(old: Cookie, new: Cookie) -> bool:
    """By storage and name or pattern; one that has neither, by its description in any language."""
    if (old.storage, old.name, old.pattern) != (new.storage, new.name, new.pattern):
        return False
    if old.name is not None or old.pattern is not None:
        return True
    return any(old.description.get(language) == text for language, text in new.description.items())


def _lives_longer(old: Cookie, new: Cookie) -> bool:
    if old.duration == "persistent" or new.duration == "session":
        return False
    if new.duration == "persistent" or old.duration == "session":
        return True
    if old.inactivity is None and new.inactivity is not None:
        return True  # with every visit it begins anew
    was, now = old.inactivity or old.duration, new.inactivity or new.duration
    return isinstance(was, Duration) and isinstance(now, Duration) and is_longer(now, was)


def _name(cookie: Cookie) -> str:
    described = next(iter(cookie.description.values()), "")
    return cookie.name or cookie.pattern or (described if len(described) < 60 else f"{described[:57]}…")


def _thing(cookie: Cookie) -> str:
    name = _name(cookie)
    kind = "cookie" if cookie.storage == "cookie" else f"{cookie.storage} item"
    return f"{kind} {name}" if cookie.name or cookie.pattern else f"{kind} “{name}”"


def _life(cookie: Cookie) -> str:
    if cookie.inactivity is not None:
        return f"which lives until {period(cookie.inactivity)} after its last use"
    if isinstance(cookie.duration, Duration):
        return f"which lives {period(cookie.duration)}"
    return "which ends with the session" if cookie.duration == "session" else "which lives with no end named"


def _basis(basis: LegalBasis) -> str:
    return basis.replace("_", " ")


def _place(key: str) -> str:
    return "general" if key == DEFAULT else key


def _places(places: Sequence[str]) -> str:
    """Groups by their names where all their members are there."""
    left, names = dict.fromkeys(places), []
    if left.keys() >= COUNTRIES:
        return "everywhere"
    for group, members in (("EEA", GROUPS["EEA"]), ("EU", GROUPS["EU"]), ("UK", GROUPS["UK"])):
        if members <= left.keys():
            names.append(group)
            left = {place: None for place in left if place not in members}
    if len(left) > len(COUNTRIES) // 2:
        others = sorted(COUNTRIES.difference(places))
        return f"everywhere but in {_listed(others)}"
    return f"in {_listed([*names, *left])}"


def _listed(names: Sequence[str]) -> str:
    if len(names) > _MAX_REGIONS_NAMED:
        return f"{', '.join(names[:_MAX_REGIONS_NAMED])} and {len(names) - _MAX_REGIONS_NAMED} more"
    return ", ".join(names)


def instead(before: str | None, after: str | None) -> str:
    """`24 months instead of 12`: a unit that both have stands once."""
    if before == after:
        return f"{after}, written otherwise"
    if before is None or after is None:
        return f"{after} (not named before)" if before is None else f"not named any more (was {before})"
    number, _, unit = after.partition(" ")
    was, _, was_unit = before.partition(" ")
    if number.isdigit() and was.isdigit() and unit.rstrip("s") == was_unit.rstrip("s") != "":
        return f"{after} instead of {was}"
    return f"{after} instead of {before}"
