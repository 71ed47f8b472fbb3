"""Postgres and NATS as child processes, and `consent-ledger up`, which runs everything in one process tree."""
