-- Values that were erased, as hashes: what is loaded again from an object that arrived before leaves their rows out.
CREATE TABLE erased (
    dataset   text        NOT NULL,
    "column"  text        NOT NULL,
    sha256    text        NOT NULL CHECK (sha256 ~ '^[0-9a-f]{64}$'),
    erased_at timestamptz NOT NULL,
    PRIMARY KEY (dataset, "column", sha256)
);

-- A chunk begun before an erasure does not know of it, and is waited for.
ALTER TABLE chunks ADD COLUMN begun_at timestamptz;

-- The object was removed, by the dataset's retention.
ALTER TABLE uploads ADD COLUMN object_removed_at timestamptz;

-- `replaces`: the upload whose rejected rows this one corrects; once it has loaded, that one says so.
ALTER TABLE uploads ADD COLUMN corrected_by uuid;

CREATE OR REPLACE VIEW upload_status AS
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
           u.sender, u.duplicate_of, l.generation, l.corrected_by
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

GRANT SELECT, INSERT, UPDATE ON erased TO ingest;
