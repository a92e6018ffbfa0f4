"""A Dagster asset whose retries resume: the partition's name is the job's name, so a retried step finds its batches at
the service and waits on instead of submitting the rows again.

    dagster asset materialize -m dagster_assets --select aisles --partition 2025-11-22
"""

from pathlib import Path

import polars
from dagster import AssetExecutionContext, Backoff, DailyPartitionsDefinition, MaterializeResult, RetryPolicy, asset
from nightly import label

import batchkit

DAYS = DailyPartitionsDefinition(start_date="2025-11-01")


@asset(partitions_def=DAYS, retry_policy=RetryPolicy(max_retries=30, delay=600, backoff=Backoff.LINEAR))
def aisles(context: AssetExecutionContext) -> MaterializeResult:
    """Labels of one day's products. `BATCHKIT_LEDGER` should be on a disk that outlives the worker."""
    day = context.partition_key
    with batchkit.Client() as client:
        answers = label(polars.read_csv(f"products/{day}.csv"), day, Path("aisles"), client)
        job = client.show(f"aisles-{day}")
    batches = [batch.id for part in job.parts for batch in part.batches]
    return MaterializeResult(metadata={"rows": len(answers), "failed": int((~answers["ok"]).sum()), "batches": batches})
