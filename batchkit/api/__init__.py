"""The service's files and batches over HTTP. Knows nothing of jobs, parts or the ledger."""
