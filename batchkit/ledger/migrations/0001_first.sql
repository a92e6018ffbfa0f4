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
    total        INTEGER,
    ok           INTEGER,
    failed       INTEGER,
    missing      INTEGER
);

CREATE TABLE rounds (
    job_id     TEXT NOT NULL REFERENCES jobs (id),
    number     INTEGER NOT NULL,
    lines      INTEGER NOT NULL,
    created_at REAL NOT NULL,
    PRIMARY KEY (job_id, number)
);

CREATE TABLE parts (
    id          TEXT PRIMARY KEY,
    job_id      TEXT NOT NULL,
    round       INTEGER NOT NULL,
    number      INTEGER NOT NULL,
    state       TEXT NOT NULL,
    lines       INTEGER NOT NULL,
    bytes       INTEGER NOT NULL,
    sha256      TEXT NOT NULL,
    file_id     TEXT,
    intent      TEXT,
    intent_at   REAL,
    clean_at    REAL,
    held        TEXT,
    next_try_at REAL,
    tries       INTEGER NOT NULL DEFAULT 0,
    UNIQUE (job_id, round, number),
    FOREIGN KEY (job_id, round) REFERENCES rounds (job_id, number)
);

CREATE TABLE batches (
    id             TEXT PRIMARY KEY,
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
    ended_at       REAL
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
