"""`python -m ledger` is `consent-ledger`."""

from ledger.cli import main

main()
