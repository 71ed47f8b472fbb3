"""A realistic day of visitors against a running ledger, every answer checked: a demonstration, and the soak load.

It is a client like any other: it knows the outward contract and the rules of decisions, and nothing of the server's
inside.
"""

from ledger.simulate.run import run_simulate

__all__ = ["run_simulate"]
