"""A step of a pipeline: new rows in as a dataframe, answers out as Parquet. Safe to run again and safe to kill: the
same day's rows are the same job, so a second run goes on where the first one was, and nothing is paid twice.

    python nightly.py products.csv 2025-11-22 out/
"""

from __future__ import annotations

import sys
from pathlib import Path

import polars

import batchkit


def label(products: polars.DataFrame, day: str, out: Path, client: batchkit.Client) -> polars.DataFrame:
    """One row for each product, its columns first, with what the model says of it in `text`."""
    rows = products.to_dicts()
    lines = batchkit.lines(
        rows,
        deployment="gpt-4o-batch",
        custom_id="sku",
        body="Which aisle of a supermarket is this in? One word.\n\n{name}: {description}",
        params={"max_tokens": 10},
    )
    out.mkdir(parents=True, exist_ok=True)
    place = out / f"{day}.parquet"
    results = client.run(lines, name=f"aisles-{day}", out=place, join=rows, retries=2)
    if not results.report.balanced:
        raise SystemExit(f"the rows of {day} do not add up: {results.report}")
    answers = polars.read_parquet(place)
    print(f"{day}: {answers['ok'].sum()} of {len(answers)} labelled, {results.report.output_tokens} tokens out")
    return answers


if __name__ == "__main__":
    source, day, out = sys.argv[1:]
    with batchkit.Client() as client:  # the environment names the service
        label(polars.read_csv(source, schema_overrides={"sku": polars.String}), day, Path(out), client)
