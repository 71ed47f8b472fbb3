"""What the versions of a policy say about one purpose at one time: whether and where it is asked, what became of the
grants that cite each of them, when an answer is asked for again.

Nothing here is about a visitor; the rules that weigh a visitor's acts under these terms are in core/rules.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import Any, Literal, NamedTuple

from ledger.core.document import ReaskAfter, SiteDocument
from ledger.core.duration import Duration
from ledger.core.fold import Act
from ledger.core.policy import PolicyHistory, Published
from ledger.core.regions import Regime, applying, regime_in, strictest

Fixed = Literal["no_policy", "unknown_purpose", "not_required"]
Lapse = Literal["policy_changed", "expired"]
Interval = Literal["refusal", "withdrawal", "dismissal"]


class Standing(NamedTuple):
    """What became of grants that cite one version.

    `ended`: why they hold no more, if so (`replaced`, or `dropped`: by the version at `ended_by`, which asks again, or
    did not offer the purpose). Otherwise the shortest of `renewals` runs; `barred`: the cited version and each since
    says that they cannot be withdrawn.
    """

    ended: Literal["unpublished", "not_asked", "replaced", "dropped"] | None = None
    ended_by: int | None = None
    renewals: tuple[Duration, ...] = ()
    barred: bool = False


class Terms:
    """What holds for one purpose from one version's effect to the next, or before the first.

    `names` are the purpose's own and those that it goes on with (`aliasOf`), the newest first; `needs` the terms of the
    attestations without which no grant holds; `fixed` an answer that no act can change.
    """

    def __init__(self, history: PolicyHistory, purpose: str, at_ms: int, *, needed: bool = False) -> None:
        self.history = history
        self.purpose = purpose
        self.index = index = bisect_right(history.effects_ms, at_ms) - 1
        self.in_force: Published | None = history.in_effect_order[index] if index >= 0 else None
        self.version = self.in_force.document.version if self.in_force else None
        self.names: tuple[str, ...] = (purpose,)
        self.needs: tuple[Terms, ...] = ()
        self.fixed: Fixed | None = None
        self.unanswered: dict[tuple[str | None, bool], Any] = {}
        """For core/rules to keep what it says to visitors without any act, by region and signal."""
        self._standings: dict[tuple[str, str | None], Standing] = {}
        self._regimes: dict[str | None, Regime] = {}
        self._intervals: dict[tuple[Interval, str | None, str | None], tuple[Duration, ...]] = {}
        self._needed = needed
        self._following: Terms | None = None
        self._before: Terms | None = None
        following = index + 1
        self.ends_ms = history.effects_ms[following] if following < len(history.effects_ms) else None
        """When the next known version takes effect."""
        self.announces = False
        """Whether the site tells each visitor of the version in force, on the first visit after it took effect."""
        if self.in_force is None:
            self.fixed = "no_policy"
            return
        document = self.in_force.document
        self.announces = document.announce_changes == "first-visit"
        if not document.offers(purpose):
            self.fixed = "unknown_purpose"
        elif not document.asks(purpose):
            self.fixed = "not_required"
        else:
            self.names = document.names_of(purpose)
            self._regime_table = document.regimes_of(purpose)
            found = document.purposes[purpose]
            self._reask = found.reask_after
            if not needed and found.kind != "attestation":
                self.needs = tuple(Terms(history, need, at_ms, needed=True) for need in found.needs)

    def following(self, ends_ms: int) -> Terms:
        """The terms from `ends_ms` on; of versions with one time of effect the last in order has the say."""
        if self._following is None:
            self._following = Terms(self.history, self.purpose, ends_ms, needed=self._needed)
            self._following._before = self
        return self._following

    def is_news_to(self, last: Act | None) -> bool:
        """Whether the version in force, if it is announced, took effect after the visitor's last act."""
        return (
            last is not None
            and self.history.effects_ms[self.index] > last.effective_ms
            and self.version != last.version
        )

    # --- grants ----------------------------------------------------------------------------------------------------

    def lapse(self, grant: Act, name: str, at_ms: int) -> tuple[Lapse | None, int | None]:
        """Why a grant of `name` no longer holds, if so, and when it expires."""
        standing = self.standing(name, grant.version)
        if standing.ended is not None:
            return "policy_changed", None
        until_ms = min([renewal.after(grant.effective_ms) for renewal in standing.renewals])
        return ("expired" if until_ms <= at_ms else None), until_ms

    def bars(self, grant: Act, name: str, denial: Act) -> bool:
        """Whether a grant of `name` may not be withdrawn by a denial after it. One made before the cited version was in
        force stands: nothing had said then that it would not count, and time alone makes no grant of a denial.
        """
        if not self.standing(name, grant.version).barred:
            return False
        cited = None if grant.version is None else self.history.order_of(grant.version)
        return cited is not None and self.history.effects_ms[cited] <= denial.effective_ms

    def standing(self, name: str, version: str | None) -> Standing:
        """What became of grants of `name` that cite `version`."""
        found = self._standings.get((name, version))
        if found is None:
            found = self._standings[name, version] = self._standing(name, version)
        return found

    def _standing(self, name: str, version: str | None) -> Standing:
        """A grant that cites what was never published, or a version that did not ask, counts as materially replaced."""
        ordered = self.history.in_effect_order
        cited = None if version is None else self.history.order_of(version)
        if cited is None:
            return Standing("unpublished")
        if not ordered[cited].document.asks(name):
            return Standing("not_asked")
        found, first = self._found_before(name, version, cited)
        if found.ended is not None:
            return found
        renewals, barred = dict.fromkeys(found.renewals), found.barred
        for index in range(first, self.index + 1) if first <= self.index else (self.index,):
            document = ordered[index].document
            called = name if index == cited else self.called(document, name)
            if index > cited:
                if called is None:
                    return Standing("dropped", index)  # whatever is said of one that comes back, its grants are gone
                if self.history.material(index, called):
                    return Standing("replaced", index)
            renewals[document.renewal_of(called or name)] = None
            barred = barred and called is not None and not document.purposes[called].withdrawable
        return Standing(None, None, tuple(renewals), barred)

    def _found_before(self, name: str, version: str | None, cited: int) -> tuple[Standing, int]:
        """What the terms before these found already, so that a way through many versions is gone once, and the index of
        the first version that they did not look at; else the version that is cited, by itself.
        """
        before = self._before
        if before is not None and before.fixed is None and before.names == self.names and before.index >= cited:
            found = before._standings.get((name, version))
            if found is not None:
                return found, before.index + 1
        document = self.history.in_effect_order[cited].document
        barred = not document.purposes[name].withdrawable
        return Standing(None, None, (document.renewal_of(name),), barred), cited + 1

    def called(self, document: SiteDocument, name: str) -> str | None:
        """Under which name another version offers what was granted as `name`: its own, or a later one."""
        since = self.names[self.names.index(name) :: -1]
        return next((each for each in since if document.offers(each)), None)

    # --- places ----------------------------------------------------------------------------------------------------

    def regime(self, region: str | None, act: Act | None) -> Regime:
        """The strictest of the asker's region and the act's."""
        asked = self.regime_at(region)
        if act is None or act.region == region:
            return asked
        return strictest((asked, self.regime_at(act.region)))

    def regime_at(self, region: str | None) -> Regime:
        regime = self._regimes.get(region)
        if regime is None:
            regime = self._regimes[region] = regime_in(self._regime_table, region)
        return regime

    # --- asking again ----------------------------------------------------------------------------------------------

    def quiet_until_ms(self, act: Act, interval: Interval, region: str | None) -> int | None:
        """Until when an act keeps the question away: the longest of the asker's region and the act's.

        None: for good after a denial; not at all after a dismissal.
        """
        place = (interval, region, act.region)
        periods = self._intervals.get(place)
        if periods is None:
            found = {_period(reask, interval) for reask in self._reasks(region, act.region)}
            known = tuple(period for period in found if period is not None)
            periods = self._intervals[place] = () if interval != "dismissal" and None in found else known
        return max([period.after(act.effective_ms) for period in periods]) if periods else None

    def _reasks(self, *regions: str | None) -> tuple[ReaskAfter, ...]:
        assert self.in_force is not None
        document = self.in_force.document
        if self._reask is not None:
            return (self._reask,)
        if not document.reask_after_in:
            return (document.reask_after,)
        table, default = document.reask_after_in, document.reask_after
        return tuple(reask for region in set(regions) for reask in applying(table, region, default))


def _period(reask: ReaskAfter, interval: Interval) -> Duration | None:
    if interval == "refusal":
        return reask.refusal
    return reask.withdrawal if interval == "withdrawal" else reask.dismissal
