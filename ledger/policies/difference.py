"""What one version of a policy changes, as the message that tells it: to HTTP and at the command line alike. Pure.

What is material is core/policy_diff.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ledger.core.document import SiteDocument
from ledger.core.policy_diff import diff
from ledger.messages import AskedAgain, PolicyChange, PolicyDiff


def described(before: SiteDocument | None, after: SiteDocument, why: Callable[[str], Sequence[str]]) -> PolicyDiff:
    """What a document changes, and `why` visitors are asked again for a purpose: nobody is, for what is required."""
    asked = [AskedAgain(purpose=name, why=list(why(name))) for name in after.purposes if after.asks(name)]
    return PolicyDiff(
        site=after.site,
        before=None if before is None else before.version,
        after=after.version,
        changes=[
            PolicyChange(path=change.path, what=change.what, purpose=change.purpose, material=change.material)
            for change in diff(before, after).changes
        ],
        asks_again=[each for each in asked if each.why],
        not_material=after.policy.not_material,
    )
