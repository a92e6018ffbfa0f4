-- Parts remember the target that holds their file and batch; a deployment's quota is known to all jobs.

ALTER TABLE parts ADD COLUMN place REAL NOT NULL DEFAULT 0;
ALTER TABLE parts ADD COLUMN target TEXT;
ALTER TABLE parts ADD COLUMN service TEXT;
ALTER TABLE parts ADD COLUMN deployment TEXT;
ALTER TABLE parts ADD COLUMN sent_sha256 TEXT;
ALTER TABLE parts ADD COLUMN sent_bytes INTEGER;
ALTER TABLE parts ADD COLUMN doubt_at REAL;
ALTER TABLE parts ADD COLUMN listed_at REAL;
ALTER TABLE parts ADD COLUMN swept_at REAL;

UPDATE parts SET
    place = number,
    target = (SELECT target FROM jobs WHERE jobs.id = job_id),
    service = (SELECT service FROM jobs WHERE jobs.id = job_id),
    deployment = (SELECT deployment FROM jobs WHERE jobs.id = job_id);

CREATE INDEX parts_by_queue ON parts (service, deployment, state);

-- Two services may give the same id to two batches.
CREATE TABLE batches_of_services (
    service        TEXT NOT NULL,
    id             TEXT NOT NULL,
    part_id        TEXT NOT NULL REFERENCES parts (id),
    seq            INTEGER NOT NULL,
    status         TEXT NOT NULL,
    input_file_id  TEXT,
    output_file_id TEXT,
    error_file_id  TEXT,
    total          INTEGER,
    completed      INTEGER,
    failed         INTEGER,
    errors         TEXT NOT NULL,
    created_at     REAL,
    looked_at      REAL,
    ended_at       REAL,
    PRIMARY KEY (service, id)
);

INSERT INTO batches_of_services SELECT
    (SELECT service FROM parts WHERE parts.id = part_id), id, part_id, seq, status, input_file_id, output_file_id,
    error_file_id, total, completed, failed, errors, created_at, looked_at, ended_at FROM batches;

DROP TABLE batches;

ALTER TABLE batches_of_services RENAME TO batches;

CREATE INDEX batches_of_part ON batches (part_id, seq);

CREATE TABLE quotas (
    service     TEXT NOT NULL,
    deployment  TEXT NOT NULL,
    tokens      INTEGER,
    tries       INTEGER NOT NULL DEFAULT 0,
    next_try_at REAL,
    why         TEXT,
    PRIMARY KEY (service, deployment)
);

-- Where a job's rows came from, so that the same command need not read them again to know it.
CREATE TABLE sources (
    fingerprint TEXT PRIMARY KEY,
    job_id      TEXT NOT NULL REFERENCES jobs (id),
    written     TEXT
);

ALTER TABLE jobs ADD COLUMN balanced INTEGER NOT NULL DEFAULT 1;
