"""The quick start from Python: rows → request lines → one job → results in input order.

Needs a service: AZURE_OPENAI_ENDPOINT and AZURE_OPENAI_API_KEY, for example those that `batchkit emulate` prints.
Run it again and it goes on where it was: a job is its name and its content.
"""

from collections import Counter
from pathlib import Path

import batchkit

here = Path(__file__).parent

lines = batchkit.lines(
    batchkit.read_rows(here / "packages.csv"),
    deployment="gpt-4o-batch",
    custom_id="package",
    body=(here / "prompt.txt").read_text("utf-8"),
)

with batchkit.Client() as client:
    job = client.submit(lines, name="quickstart-library")
    for seen in client.track(job):
        print(seen.status, seen.counts.completed, "of", seen.counts.total)
    results = client.fetch(job)
    print(Counter(result.error_code or "ok" for result in results))
    print(results.report)
