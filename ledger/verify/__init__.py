"""`verify`: audits an exported bundle offline, by the fourteen rules, without trusting whoever made it.

It does not talk to a database, a network or a running ledger. The rules are core/audit; here are the files, the
processes and the report around them.
"""

from ledger.verify.report import Report, render
from ledger.verify.walk import verify

__all__ = ["Report", "render", "verify"]
