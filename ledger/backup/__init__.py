"""Backups: sealed, checked before anything is touched, and put back without bringing anybody back who was erased.

A directory of backups holds `<time>.backup` files, which never change, and beside them two small files that do:
`keyring` (the wrapped data keys: one destroyed there is destroyed for every old backup) and `erasures` (who was
forgotten since, by position). A third, `acts`, has what the administrative logs recorded since.
"""
