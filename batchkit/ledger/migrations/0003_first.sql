-- Ids, hashes, counts and times only: no prompt, no answer, no secret is ever written here.

CREATE TABLE jobs (
    id           TEXT PRIMARY KEY,
    name         TEXT NOT NULL UNIQUE,
    sha256       TEXT NOT NULL,
    service      TEXT NOT NULL,
    target       TEXT NOT NULL,
    url          TEXT NOT NULL,
    deployment   TEXT NOT NULL,
    created_at   REAL NOT NULL,
    settled_at   REAL,
    cancelled_at REAL,
    aside        TEXT NOT NULL DEFAULT '[]',
    total        INTEGER,
    ok           INTEGER,
    failed       INTEGER,
    missing      INTEGER,
    balanced     INTEGER NOT NULL DEFAULT 1
);

CREATE TABLE rounds (
    job_id     TEXT NOT NULL REFERENCES jobs (id),
    number     INTEGER NOT NULL,
    lines      INTEGER NOT NULL,
    created_at REAL NOT NULL,
    PRIMARY KEY (job_id, number)
);

-- Parts remember the target that holds their file and batch.
CREATE TABLE parts (
    id          TEXT PRIMARY KEY,
    job_id      TEXT NOT NULL,
    round       INTEGER NOT NULL,
    number      INTEGER NOT NULL,
    place       REAL NOT NULL DEFAULT 0,
    state       TEXT NOT NULL,
    lines       INTEGER NOT NULL,
    bytes       INTEGER NOT NULL,
    sha256      TEXT NOT NULL,
    target      TEXT,
    service     TEXT,
    deployment  TEXT,
    sent_sha256 TEXT,
    sent_bytes  INTEGER,
    file_id     TEXT,
    intent      TEXT,
    intent_at   REAL,
    clean_at    REAL,
    doubt_at    REAL,
    listed_at   REAL,
    swept_at    REAL,
    held        TEXT,
    next_try_at REAL,
    tries       INTEGER NOT NULL DEFAULT 0,
    UNIQUE (job_id, round, number),
    FOREIGN KEY (job_id, round) REFERENCES rounds (job_id, number)
);

CREATE INDEX parts_by_queue ON parts (service, deployment, state);

-- Two services may give the same id to two batches.
CREATE TABLE batches (
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

CREATE INDEX batches_of_part ON batches (part_id, seq);

CREATE TABLE events (
    seq    INTEGER PRIMARY KEY,
    job_id TEXT NOT NULL REFERENCES jobs (id),
    part   INTEGER,
    at     REAL NOT NULL,
    kind   TEXT NOT NULL,
    detail TEXT NOT NULL
);

CREATE INDEX events_of_job ON events (job_id, seq);

CREATE TABLE leases (
    job_id     TEXT PRIMARY KEY REFERENCES jobs (id),
    owner      TEXT NOT NULL,
    token      TEXT NOT NULL,
    expires_at REAL NOT NULL
);

-- A deployment's quota is known to all jobs.
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
