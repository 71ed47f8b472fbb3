"""`consent-ledger doctor`: look at an installation and say what is not as it should be, and what to do about it.

It reads, and changes nothing. Each module answers one question: `database` (may it be relied upon), `signing` (can each
log be appended to and signed), `duties` (is all done in time), `policies` (what is to be thought over in them), and
`surroundings` (what lies outside the database).
"""
