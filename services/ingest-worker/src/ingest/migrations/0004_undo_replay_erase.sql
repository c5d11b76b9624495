-- What is done to uploads and datasets besides loading: undo, replay, erase. A command is a job from the moment that it
-- is acknowledged on Kafka; whoever finds an unfinished one goes on with it.
CREATE TABLE jobs (
    job_id       uuid        PRIMARY KEY,  -- the command's event_id: a repeat is the same job
    kind         text        NOT NULL CHECK (kind IN ('undo', 'replay', 'erase')),
    dataset      text        NOT NULL,
    upload_id    uuid        REFERENCES uploads,
    body         jsonb       NOT NULL DEFAULT '{}',
    requested_by uuid,
    state        text        NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'done', 'failed')),
    result       jsonb,
    error        text,
    created_at   timestamptz NOT NULL DEFAULT now(),
    finished_at  timestamptz
);

CREATE INDEX jobs_waiting ON jobs (dataset, created_at) WHERE state = 'waiting';

ALTER TABLE uploads
    DROP CONSTRAINT uploads_state_check,
    ADD CONSTRAINT uploads_state_check CHECK (state IN (
        'planning', 'loading', 'completed', 'completed_with_rejects', 'failed', 'undoing', 'undone', 'duplicate')),
    -- When this one has loaded, that one is undone.
    ADD COLUMN replaces uuid;

-- Set while a loader works on the chunk. A loader that was killed leaves it; progress_at then says how long ago.
ALTER TABLE chunks ADD COLUMN running boolean NOT NULL DEFAULT false;

-- Uploads that are being undone: readers leave their rows out, by the history.
ALTER TABLE dataset_versions ADD COLUMN excluded text[] NOT NULL DEFAULT '{}';

CREATE OR REPLACE VIEW dataset_freshness AS
    SELECT dataset, version, raised_at AS fresh_at, excluded FROM dataset_versions;

CREATE VIEW job_status AS
    SELECT job_id, kind, dataset, upload_id, requested_by, state, result, error, created_at, finished_at FROM jobs;

GRANT SELECT, INSERT, UPDATE ON jobs TO ingest;
GRANT SELECT ON job_status TO ingest, gateway;
