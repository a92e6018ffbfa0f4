// The whole life of files and batches through the official Node SDK: `life.mjs URL KEY dated|v1 LINES`.
import assert from "node:assert";
import fs from "node:fs";
import OpenAI, { AzureOpenAI, NotFoundError } from "openai";

const [url, key, dialect, lines] = process.argv.slice(2);
const client =
  dialect === "dated"
    ? new AzureOpenAI({ endpoint: url, apiKey: key, apiVersion: "2025-04-01-preview" })
    : new OpenAI({ baseURL: `${url}/openai/v1/`, apiKey: key });
const pause = () => new Promise((done) => setTimeout(done, 10));
const expires_after = { anchor: "created_at", seconds: 1209600 };
let file = await client.files.create({ file: fs.createReadStream(lines), purpose: "batch", expires_after });
assert.equal(file.expires_at, file.created_at + 1209600);
while (file.status !== "processed") {
  await pause();
  file = await client.files.retrieve(file.id);
}
const made = [];
for (const n of ["0", "1", "2"]) {
  made.push(
    await client.batches.create({
      input_file_id: file.id,
      endpoint: "/v1/chat/completions",
      completion_window: "24h",
      metadata: { n },
    }),
  );
}
await client.batches.cancel(made[2].id);
const listed = [];
for await (const batch of client.batches.list({ limit: 2 })) listed.push(batch.id);
for (const batch of made) assert(listed.includes(batch.id));
for (let batch of made) {
  while (!["completed", "cancelled", "failed", "expired"].includes(batch.status)) {
    await pause();
    batch = await client.batches.retrieve(batch.id);
  }
  assert.equal(batch.status, batch.id === made[2].id ? "cancelled" : "completed");
  if (batch.status === "completed") {
    const results = await (await client.files.content(batch.output_file_id)).text();
    assert.equal(results.trimEnd().split("\n").length, 20);
  }
}
await assert.rejects(() => client.batches.retrieve("batch_none"), NotFoundError);
assert((await client.files.delete(file.id)).deleted);
console.log("lived");
