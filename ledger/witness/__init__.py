"""Witnesses: asking them (`client`, `policy`), and being one (`server`, `state`, `command`)."""
