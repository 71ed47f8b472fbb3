"""Commands that belong to no other folder, a module each, and what all commands share: how one finds its ledger, who
acts, how it is told a visitor, how it ends without a verdict.

A part with a folder of its own has its command there, as `command.py`; ledger/cli.py knows where each is.
"""
