"""The whole life of files and batches through the official Python SDK: `life.py URL KEY dated|v1 LINES`."""

import sys
import time

import openai

url, key, dialect, lines = sys.argv[1:]
client: openai.OpenAI
if dialect == "dated":
    client = openai.AzureOpenAI(azure_endpoint=url, api_key=key, api_version="2025-04-01-preview")
else:
    client = openai.OpenAI(base_url=f"{url}/openai/v1/", api_key=key)
with open(lines, "rb") as file:
    expiry = {"expires_after[anchor]": "created_at", "expires_after[seconds]": "1209600"}
    uploaded = client.files.create(file=file, purpose="batch", extra_body=expiry)
assert uploaded.expires_at == uploaded.created_at + 1209600, uploaded
assert uploaded.id in [entry.id for entry in client.files.list(purpose="batch")]
while uploaded.status != "processed":
    time.sleep(0.01)
    uploaded = client.files.retrieve(uploaded.id)
made = [
    client.batches.create(
        input_file_id=uploaded.id, endpoint="/v1/chat/completions", completion_window="24h", metadata={"n": str(n)}
    )
    for n in range(3)
]
client.batches.cancel(made[2].id)
listed = client.batches.list(limit=2)
assert {batch.id for batch in listed} >= {batch.id for batch in made}
for batch in made:
    while batch.status not in ("completed", "cancelled", "failed", "expired"):
        time.sleep(0.01)
        batch = client.batches.retrieve(batch.id)
    expected = "cancelled" if batch.id == made[2].id else "completed"
    assert batch.status == expected, batch
    if expected == "completed":
        results = client.files.content(batch.output_file_id or "").content
        assert batch.request_counts
        assert len(results.splitlines()) == batch.request_counts.completed == 20
try:
    client.batches.retrieve("batch_none")
except openai.NotFoundError as error:
    assert "batch_none" in str(error)
else:
    raise AssertionError("an unknown batch was found")
assert client.files.delete(uploaded.id).deleted
print("lived", openai.__version__)
