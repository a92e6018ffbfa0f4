"""Rows → request lines → parts. Knows of no network, ledger, clock or key."""
