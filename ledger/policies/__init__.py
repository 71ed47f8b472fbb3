"""Versions of a site's policy on their way from the author's files into the log. What a version means and what it
changes is the core's (core/policy, core/policy_diff); what it answers is core/decide.

authoring   the document as its author keeps it: beside the files that it names
check       reading it offline, with advice
difference  what a version changes, as a message
publishing  uploads, versions appended to the log, and both read again
command     `consent-ledger policy`
"""
