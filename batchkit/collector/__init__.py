"""Batches → results: fetch, merge in input order, account for every row, export."""
