"""Postgres: the one place where the ledger lives. SQL in files, one concern each; this package calls it."""
