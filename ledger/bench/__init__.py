"""What this machine can do: the ledger's rates and latencies, and a bare PostgreSQL insert beside them, in one run."""

from ledger.bench.run import run_bench

__all__ = ["run_bench"]
