-- The records topic: how far each partition is loaded, for invariant I5 and for operators; the consumer itself begins
-- where its group's offsets say. Rows per dataset and day, of messages counted once however often they are delivered.

CREATE TABLE record_progress (
    topic       text        NOT NULL,
    partition   integer     NOT NULL,
    next_offset bigint      NOT NULL DEFAULT 0,
    accepted    bigint      NOT NULL DEFAULT 0,
    dead        bigint      NOT NULL DEFAULT 0,
    updated_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (topic, partition)
);

CREATE TABLE record_days (
    dataset  text   NOT NULL,
    day      date   NOT NULL,
    accepted bigint NOT NULL,
    PRIMARY KEY (dataset, day)
);

CREATE VIEW records_by_day AS SELECT dataset, day, accepted FROM record_days;

GRANT SELECT, INSERT, UPDATE ON record_progress, record_days TO ingest;
GRANT SELECT ON records_by_day TO gateway;
