"""Consent ledger: signed, hash-chained consent events, provable to a stranger."""

__version__ = "0.1.0"
