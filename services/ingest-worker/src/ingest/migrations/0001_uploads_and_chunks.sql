-- What was received, how it was cut, how far each piece is. The truth about every load.

CREATE TABLE uploads (
    upload_id       uuid        PRIMARY KEY,
    -- Orders uploads in the version of their rows; it never changes, so a replay makes the same versions.
    sequence        bigint      GENERATED ALWAYS AS IDENTITY UNIQUE,
    dataset         text        NOT NULL,
    filename        text        NOT NULL,
    object_key      text        NOT NULL,
    size            bigint      NOT NULL CHECK (size >= 0),
    sha256          text        NOT NULL CHECK (sha256 ~ '^[0-9a-f]{64}$'),
    sender          uuid,
    declared_format text,
    received_at     timestamptz NOT NULL,
    generation      integer     NOT NULL DEFAULT 1 CHECK (generation >= 1),
    -- Live: its rows count, and the same content again is answered with it. Failed and undone uploads are not.
    live            boolean     NOT NULL,
    duplicate_of    uuid        REFERENCES uploads,
    state           text        NOT NULL CHECK (state IN (
                        'planning', 'loading', 'completed', 'completed_with_rejects', 'failed', 'undone', 'duplicate')),
    layout          jsonb,
    error           text,
    -- Set when the upload ends; rows_total is what the planner counted, where it did.
    rows_total      bigint,
    rows_accepted   bigint,
    rows_rejected   bigint,
    created_at      timestamptz NOT NULL DEFAULT now(),
    started_at      timestamptz,
    finished_at     timestamptz,
    CHECK ((state = 'duplicate') = (duplicate_of IS NOT NULL)),
    CHECK (NOT live OR duplicate_of IS NULL)
);

CREATE UNIQUE INDEX uploads_live_content ON uploads (dataset, sha256) WHERE live;
CREATE INDEX uploads_unfinished ON uploads (created_at) WHERE state IN ('planning', 'loading');
CREATE INDEX uploads_of_sender ON uploads (sender, created_at DESC);
CREATE INDEX uploads_finished ON uploads (finished_at DESC);

CREATE TABLE chunks (
    upload_id     uuid        NOT NULL REFERENCES uploads,
    generation    integer     NOT NULL,
    chunk_no      integer     NOT NULL CHECK (chunk_no >= 0),
    start_byte    bigint      NOT NULL,
    end_byte      bigint      NOT NULL CHECK (end_byte >= start_byte),
    first_row     bigint      NOT NULL,
    first_line    bigint      NOT NULL,
    rows_planned  bigint,     -- unknown where the planner did not read the records
    state         text        NOT NULL DEFAULT 'planned' CHECK (state IN ('planned', 'done')),
    -- Begun, and not yet ended one way or the other: more than a few mean that the chunk kills its loader.
    attempts      integer     NOT NULL DEFAULT 0,
    bytes_done    bigint      NOT NULL DEFAULT 0,
    rows_accepted bigint      NOT NULL DEFAULT 0,
    rows_rejected bigint      NOT NULL DEFAULT 0,
    values_dropped jsonb      NOT NULL DEFAULT '{}',
    published_at  timestamptz,
    progress_at   timestamptz,
    finished_at   timestamptz,
    PRIMARY KEY (upload_id, generation, chunk_no)
);

CREATE TABLE dataset_versions (
    dataset   text        PRIMARY KEY,
    version   bigint      NOT NULL,
    raised_at timestamptz NOT NULL
);

-- A duplicate shows what became of the first upload of its content.
CREATE VIEW upload_status AS
    SELECT u.upload_id, u.dataset, u.filename, l.state, u.sha256, u.size,
           CASE WHEN l.finished_at IS NOT NULL AND l.state <> 'failed' THEN u.size
                ELSE least(u.size, coalesce(c.bytes_done, 0)) END AS bytes_done,
           coalesce(l.rows_total, c.rows_planned) AS rows_total,
           coalesce(l.rows_accepted, c.rows_accepted, 0) AS rows_accepted,
           coalesce(l.rows_rejected, c.rows_rejected, 0) AS rows_rejected,
           coalesce(c.chunks_done, 0) AS chunks_done,
           coalesce(c.chunks_total, 0) AS chunks_total,
           l.error, u.created_at, l.started_at,
           CASE WHEN u.duplicate_of IS NOT NULL AND l.finished_at IS NOT NULL
                THEN greatest(u.created_at, l.finished_at) ELSE l.finished_at END AS finished_at,
           u.sender, u.duplicate_of, l.generation
      FROM uploads u
      JOIN uploads l ON l.upload_id = coalesce(u.duplicate_of, u.upload_id)
 LEFT JOIN LATERAL (
           SELECT sum(bytes_done)::bigint AS bytes_done, sum(rows_accepted)::bigint AS rows_accepted,
                  sum(rows_rejected)::bigint AS rows_rejected, count(*) AS chunks_total,
                  count(*) FILTER (WHERE state = 'done') AS chunks_done,
                  CASE WHEN bool_and(rows_planned IS NOT NULL) THEN sum(rows_planned)::bigint END AS rows_planned
             FROM chunks
            WHERE chunks.upload_id = l.upload_id AND chunks.generation = l.generation
         ) c ON true;

CREATE VIEW dataset_freshness AS
    SELECT dataset, version, raised_at AS fresh_at FROM dataset_versions;

GRANT SELECT, INSERT, UPDATE ON uploads, chunks, dataset_versions TO ingest;
GRANT SELECT ON upload_status, dataset_freshness TO ingest;
GRANT USAGE ON SCHEMA ingest TO gateway;
GRANT SELECT ON upload_status, dataset_freshness TO gateway;
