"""Retention: records that were kept for as long as the site's document says are erased, on a schedule.

When a record is due, and what goes with it, is core/retention; how it is erased is ledger/erasing.
"""
