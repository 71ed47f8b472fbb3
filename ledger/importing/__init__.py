"""Bringing consents over from another tool: an export's rows become events of this ledger, each with its row as
evidence. Nothing here decides whether a consent counts: the server does, as for any other event.

    file ─ text ─┬─ table (CSV) ──┐
                 └─ values (JSON)─┴─ Row ─ format ─ Found ─ act ─ EventInput ─ sending ─ events:batch

Everything between Row and EventInput is pure. A row whose answer cannot be read is refused and reported; nothing
becomes a grant by default.
"""
