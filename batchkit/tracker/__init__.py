"""How the batches stand: one look a minute, and the questions people ask of the ledger."""
