"""An Airflow DAG that does not block a worker for a day: a sensor in reschedule mode does what is due and leaves. The
run's date is in the job's name, so a cleared or retried task resumes its job and never submits it again."""

from __future__ import annotations

from datetime import datetime, timedelta

from airflow.sdk import PokeReturnValue, dag, task

import batchkit


@dag(schedule="@daily", start_date=datetime(2025, 11, 1), catchup=False)
def aisles() -> None:
    """Rows in, answers out. `BATCHKIT_LEDGER` is PostgreSQL's address where there are several workers."""

    @task.sensor(mode="reschedule", poke_interval=600, timeout=timedelta(hours=36).total_seconds(), retries=5)
    def answered(ds: str = "") -> PokeReturnValue:
        lines = batchkit.lines(
            batchkit.read_rows(f"/data/products/{ds}.csv"),
            deployment="gpt-4o-batch",
            custom_id="sku",
            body="Which aisle of a supermarket is this in? One word.\n\n{name}: {description}",
        )
        out = f"/data/aisles/{ds}.parquet"
        with batchkit.Client() as client:
            try:
                report = client.run(lines, name=f"aisles-{ds}", out=out, once=True, retries=2).report
            except batchkit.Unfinished:
                return PokeReturnValue(is_done=False)
        return PokeReturnValue(is_done=True, xcom_value={"out": out, "ok": report.ok, "failed": report.failed})

    answered()


aisles()
