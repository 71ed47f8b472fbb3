"""What changed from one version of a site's policy to the next, in words, and for which purposes it asks again.

The answer is the diff's, whatever the author claims; where the author says that it asks nobody again, the reason is on
record in the document (`policy.notMaterial`). What distinguishes one purpose from another is in core/purpose_diff, what
follows for a grant in core/decide.
"""

from __future__ import annotations

from typing import NamedTuple

from ledger.core.document import Controller, SiteDocument
from ledger.core.periods import period
from ledger.core.purpose_diff import Change, Changes, compare_purposes, instead

__all__ = ["SAYS_NOTHING", "Change", "Diff", "asks_again", "diff"]

SAYS_NOTHING = frozenset(
    {
        # What the version is called, since when it holds and whom it asks again: about the version, not its content.
        "PolicyVersion.version",
        "PolicyVersion.effective_at",
        "PolicyVersion.material",
        "PolicyVersion.not_material",
    }
)
"""Members that are not compared, as `Struct.member`."""


class Diff(NamedTuple):
    """What distinguishes two versions."""

    changes: tuple[Change, ...]

    def reasons(self, purpose: str) -> tuple[str, ...]:
        """Why grants for the purpose that earlier versions were given no longer hold; empty where they do."""
        found = (each.what for each in self.changes if each.material and each.purpose in (None, purpose))
        return tuple(dict.fromkeys(found))


def diff(before: SiteDocument | None, after: SiteDocument) -> Diff:
    """What `after` changes, compared with the version in effect before it; None: it is the first one."""
    if before is None:
        return Diff(tuple(change for name in after.purposes for change in _appeared(after, name)))
    site = Changes(None, "")
    _compare_controllers(site, before.controller, after.controller)
    _compare_site(site, before, after)
    found = site.found
    for name in (*after.purposes, *(name for name in before.purposes if name not in after.purposes)):
        found += _compare(before, after, name)
    return Diff(tuple(found))


def asks_again(found: Diff, after: SiteDocument, purpose: str) -> tuple[str, ...]:
    """Why `after`, which changes what was `found`, asks for a purpose again; empty if it does not."""
    reasons = found.reasons(purpose)
    if after.material_for(purpose):
        return ("its author says that visitors are asked again", *reasons)
    return () if purpose in after.policy.not_material else reasons


def _compare(before: SiteDocument, after: SiteDocument, name: str) -> list[Change]:
    """The changes of one purpose, which stands in one of the versions at least."""
    if not after.offers(name):
        return _disappeared(before, after, name)
    new = after.purposes[name]
    old = before.purposes.get(name)
    found: list[Change] = []
    if before.offers(name):
        found += compare_purposes(before, name, after, name)
    joined = new.alias_of
    if joined is None or not before.offers(joined) or (old is not None and old.alias_of == joined):
        return found if before.offers(name) else _appeared(after, name, again=old is not None)
    # Its answers count from now on. Where the purpose had answers of its own, both have to have agreed to this.
    if old is not None and not before.offers(name):
        found += _appeared(after, name, again=True)
    known = {(change.path, change.what) for change in found}
    others = compare_purposes(before, joined, after, name)
    return found + [change for change in others if (change.path, change.what) not in known]


def _appeared(after: SiteDocument, name: str, *, again: bool = False) -> list[Change]:
    if not after.offers(name):
        return [Change(name, f"purposes.{name}", f"{name} is kept on record as removed")]
    purpose = after.purposes[name]
    what = f"a purpose comes back: {name}" if again else f"a new purpose: {name}"
    if not purpose.in_use:
        return [Change(name, f"purposes.{name}", f"{what}, not in use yet")]
    return [Change(name, f"purposes.{name}", what, material=not purpose.required)]


def _disappeared(before: SiteDocument, after: SiteDocument, name: str) -> list[Change]:
    """Removed, or gone from the record too: nobody is asked for it any more."""
    old, new = before.purposes.get(name), after.purposes.get(name)
    if old is None or (old.removed_in is None and new is not None):
        how = "is removed" if old is not None else "is kept on record as removed"
        return [Change(name, f"purposes.{name}.removedIn", f"{name} {how}")]
    if new is None:
        how = "is removed, and not kept on record" if old.removed_in is None else "is no longer kept on record"
        return [Change(name, f"purposes.{name}", f"{name} {how}")]
    if old != new:
        return [Change(name, f"purposes.{name}", f"the record of {name}, which is removed, reads otherwise")]
    return []


def _compare_controllers(changes: Changes, old: Controller, new: Controller) -> None:
    """Another controller is somebody whom nobody agreed to. One that is renamed or moves house is not."""
    renamed = old.bin is not None and old.bin == new.bin
    changes.value("controller.name", "the controller", old.name, new.name, material=not renamed)
    numbers = None not in (old.bin, new.bin)
    changes.value("controller.bin", "the controller's BIN", old.bin, new.bin, material=numbers)
    countries = None not in (old.country, new.country)
    changes.value("controller.country", "the controller's country", old.country, new.country, material=countries)
    for member in ("address", "email", "phone"):
        was, now = getattr(old, member), getattr(new, member)
        changes.value(f"controller.{member}", f"the controller's {member}", was, now)


def _compare_site(changes: Changes, old: SiteDocument, new: SiteDocument) -> None:
    """What concerns no purpose by itself. What it means for each purpose is compared there."""
    changes.value("site", "the site", old.site, new.site, material=True)
    changes.value("policy.url", "where the policy is to be read", old.policy.url, new.policy.url)
    changes.terms("languages", "language", old.languages, new.languages, material=False)
    changes.terms("origins", "origin", old.origins, new.origins, material=False)
    changes.terms("laws", "law that is named", old.laws, new.laws, material=False)
    _compare_order(changes, old, new)
    if old.renew_after != new.renew_after:
        lasts = instead(period(old.renew_after), period(new.renew_after))
        changes.add("renewAfter", f"a grant lasts {lasts}, where its purpose says nothing else")
    if old.reask_after != new.reask_after:
        changes.add("reaskAfter", "how soon a visitor is asked again is another")
    for key in sorted({*old.reask_after_in, *new.reask_after_in}):
        if old.reask_after_in.get(key) != new.reask_after_in.get(key):
            changes.add(f"reaskAfterIn.{key}", f"how soon a visitor in {key} is asked again is another")
    for key in sorted({*old.regimes, *new.regimes}):
        changes.value(f"regimes.{key}", f"the site's regime ({key})", old.regimes.get(key), new.regimes.get(key))
    was, now = old.announce_changes, new.announce_changes
    changes.value("announceChanges", "how changes are announced", was, now)
    for key in sorted({*old.notices, *new.notices}):
        shown = "is another" if key in old.notices and key in new.notices else "is new"
        if old.notices.get(key) != new.notices.get(key):
            changes.add(f"notices.{key}", f"the notice {key} {shown if key in new.notices else 'is gone'}")
    if old.contacts != new.contacts:
        changes.add("contacts", "the contacts are others")
    if old.authorities != new.authorities:
        changes.add("authorities", "the authorities that take complaints are others")
    for key in sorted({*old.answer_within, *new.answer_within}):
        within = (old.answer_within.get(key), new.answer_within.get(key))
        changes.value(f"answerWithin.{key}", f"how soon requests are answered ({key})", *within)
    for key in sorted({*old.answer_extension, *new.answer_extension}):
        extension = (old.answer_extension.get(key), new.answer_extension.get(key))
        changes.value(f"answerExtension.{key}", f"by how much an answer may be put off ({key})", *extension)
    if old.answer_on_working_day != new.answer_on_working_day:
        what = "the Monday after it" if new.answer_on_working_day else "no other day"
        changes.add("answerOnWorkingDay", f"a deadline on a weekend moves to {what}")
    changes.value("utcOffset", "the offset of the days of deadlines", old.utc_offset, new.utc_offset)
    _compare_records(changes, old, new)
    changes.terms("storedIn", "country with the ledger's database", old.stored_in, new.stored_in, material=False)
    changes.terms("residency", "country that wants it kept there", old.residency, new.residency, material=False)
    reviewed = (old.review_cookies_every, new.review_cookies_every)
    changes.value("reviewCookiesEvery", "how often the cookies are reviewed", *reviewed)
    if old.entry_bundles_public != new.entry_bundles_public:
        what = "public" if new.entry_bundles_public else "no longer public"
        changes.add("entryBundlesPublic", f"the log's entries are {what}")


def _compare_records(changes: Changes, old: SiteDocument, new: SiteDocument) -> None:
    """How long records are kept. Never material: keeping proof rests on no consent, and a longer period does not reach
    back to the records of those who were promised a shorter one (core/retention)."""
    kept = (old.record_retention, new.record_retention)
    changes.value("recordRetention", "how long the record of a choice is kept", *kept)
    for key in sorted({*old.record_retention_of, *new.record_retention_of}):
        of_type = (old.record_retention_of.get(key), new.record_retention_of.get(key))
        changes.value(f"recordRetentionOf.{key}", f"how long the record of a {key} is kept", *of_type)
    was, now = old.record_retention_counted, new.record_retention_counted
    changes.value("recordRetentionCounted", "from when the keeping of records is counted", was, now)
    denies = (old.suppress_for, new.suppress_for)
    changes.value("suppressFor", "how long a denial outlives its record", *denies)


def _compare_order(changes: Changes, old: SiteDocument, new: SiteDocument) -> None:
    both = set(old.order) & set(new.order)
    if [name for name in old.order if name in both] != [name for name in new.order if name in both]:
        changes.add("order", f"the purposes stand in another order: {', '.join(new.order)}")
