-- What an admin changed, old and new, and the trace in which a request can be followed.
-- details is JSON as text: COPY sends it as it came, and whoever reads it gets jsonb from the view.

ALTER TABLE request_log
    ADD COLUMN details text CHECK (details IS JSON OBJECT),
    ADD COLUMN trace_id text;

-- Null while tracing is off, so that the index costs nothing then.
CREATE INDEX request_log_trace ON request_log (trace_id) WHERE trace_id IS NOT NULL;

CREATE OR REPLACE VIEW requests AS
    SELECT event_id, event_id AS request_id, user_id, username, key_id, endpoint, method, status, duration_ms, rows,
           credits_used_mc, ip, dataset, hold_id, error_code, action, target, created_at, details::jsonb AS details,
           trace_id
      FROM request_log;
