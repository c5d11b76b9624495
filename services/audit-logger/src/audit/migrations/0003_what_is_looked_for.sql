-- Newest first, what is rare was found by reading the whole log. What most requests do not have costs them nothing here:
-- these indexes are partial, and a query whose condition implies theirs may use them.

CREATE INDEX request_log_action ON request_log (action, created_at DESC) WHERE action IS NOT NULL;
CREATE INDEX request_log_target ON request_log (target, created_at DESC) WHERE target IS NOT NULL;
CREATE INDEX request_log_refused ON request_log (status, created_at DESC) WHERE status >= 400;
CREATE INDEX request_log_error ON request_log (error_code, created_at DESC) WHERE error_code IS NOT NULL;
CREATE INDEX request_log_slow ON request_log (created_at DESC) WHERE duration_ms >= 1000;
-- These most requests pay for: who came from an address, or used a route or dataset, is asked when something is wrong.
CREATE INDEX request_log_ip ON request_log (ip, created_at DESC) WHERE ip IS NOT NULL;
CREATE INDEX request_log_dataset ON request_log (dataset, created_at DESC) WHERE dataset IS NOT NULL;
CREATE INDEX request_log_endpoint ON request_log (endpoint, created_at DESC);
