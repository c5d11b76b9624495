-- The log of every request, one partition per UTC day, and the rollups that statistics are read from.
-- The runtime role may add and read, never change or delete: even the process that writes the log cannot rewrite it.

CREATE TABLE request_log (
    event_id        uuid             NOT NULL,
    created_at      timestamptz      NOT NULL,
    user_id         uuid,
    key_id          uuid,
    hold_id         uuid,
    rows            bigint           NOT NULL,
    credits_used_mc bigint           NOT NULL CHECK (credits_used_mc >= 0),
    duration_ms     double precision NOT NULL,
    status          integer          NOT NULL,
    method          text             NOT NULL,
    endpoint        text             NOT NULL,
    username        text,
    ip              text,
    dataset         text,
    error_code      text,
    action          text,
    target          text
) PARTITION BY RANGE (created_at);

-- Both end in what a cursor of the log continues from. Each partition also has its own unique index on event_id
-- (ensure_day): a partitioned table cannot have one, since it would have to contain created_at.
CREATE INDEX request_log_newest ON request_log (created_at DESC, event_id DESC);
CREATE INDEX request_log_of_user ON request_log (user_id, created_at DESC, event_id DESC);
CREATE INDEX request_log_hold ON request_log (hold_id) WHERE hold_id IS NOT NULL;

-- Requests without a user count under the nil uuid, so that the sum over users is the number of requests.
CREATE TABLE daily_usage (
    user_id         uuid   NOT NULL,
    day             date   NOT NULL,
    endpoint        text   NOT NULL,
    requests        bigint NOT NULL,
    errors          bigint NOT NULL,
    rows            bigint NOT NULL,
    credits_used_mc bigint NOT NULL,
    PRIMARY KEY (user_id, day, endpoint)
) WITH (fillfactor = 70);

-- latency counts requests by duration: bucket 1 is below 1 ms, bucket n + 2 starts at 2^(n / 4) ms, the 66th is open.
CREATE TABLE daily_totals (
    day             date     PRIMARY KEY,
    requests        bigint   NOT NULL,
    errors          bigint   NOT NULL,
    rows            bigint   NOT NULL,
    credits_used_mc bigint   NOT NULL,
    latency         bigint[] NOT NULL CHECK (cardinality(latency) = 66)
) WITH (fillfactor = 50);

-- How far each partition of the topic is in this database: what invariant I5 compares the group's offsets with.
CREATE TABLE consumer_offsets (
    topic       text        NOT NULL,
    partition   integer     NOT NULL,
    next_offset bigint      NOT NULL,
    updated_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (topic, partition)
) WITH (fillfactor = 50);


CREATE FUNCTION add_counts(a bigint[], b bigint[]) RETURNS bigint[]
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN (SELECT array_agg(x + y ORDER BY place) FROM unnest(a, b) WITH ORDINALITY AS pair (x, y, place));

CREATE AGGREGATE sum_counts(bigint[]) (SFUNC = add_counts, STYPE = bigint[], PARALLEL = SAFE, COMBINEFUNC = add_counts);

-- The duration in ms that `share` of the counted requests did not exceed, interpolated inside its bucket; null of none.
CREATE FUNCTION latency_ms(latency bigint[], share double precision) RETURNS double precision
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN (
        SELECT CASE WHEN place = 1 THEN inside ELSE power(2, (place - 2 + inside) / 4.0) END
          FROM (SELECT place,
                       CASE WHEN place = 66 THEN 0 ELSE 1 - (upto - share * total) / amount END AS inside,
                       upto, total
                  FROM (SELECT amount::double precision, place,
                               sum(amount) OVER (ORDER BY place)::double precision AS upto,
                               sum(amount) OVER ()::double precision AS total
                          FROM unnest(latency) WITH ORDINALITY AS bucket (amount, place)) AS counted
                 WHERE amount > 0) AS placed
         WHERE upto >= share * total
         ORDER BY place
         LIMIT 1);


-- Makes the partition of a UTC day; true when it was missing. It is attached rather than created in place: that way
-- neither readers nor writers of the other days wait. The lock timeout keeps a long report from holding up the writers.
CREATE FUNCTION ensure_day(wanted date) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = audit, pg_temp SET timezone = 'UTC' SET lock_timeout = '3s'
AS $$
DECLARE
    leaf text := 'request_log_' || to_char(wanted, 'YYYYMMDD');
BEGIN
    IF to_regclass('audit.' || leaf) IS NOT NULL THEN
        RETURN false;
    END IF;
    PERFORM pg_advisory_xact_lock(hashtext('audit.request_log'), 0);
    -- Not to_regclass again: it may answer from a cache that the wait for the lock did not refresh.
    IF EXISTS (SELECT FROM pg_class WHERE relnamespace = 'audit'::regnamespace AND relname = leaf) THEN
        RETURN false;
    END IF;
    EXECUTE format('CREATE TABLE audit.%I (LIKE audit.request_log INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', leaf);
    EXECUTE format('CREATE UNIQUE INDEX %I ON audit.%I (event_id)', leaf || '_once', leaf);
    EXECUTE format('ALTER TABLE audit.request_log ATTACH PARTITION audit.%I FOR VALUES FROM (%L) TO (%L)',
                   leaf, wanted::timestamptz, (wanted + 1)::timestamptz);
    RETURN true;
END
$$;

-- Drops the partitions of days before `oldest`; returns the days. Never one of the last week, whoever asks.
CREATE FUNCTION drop_days_before(oldest date) RETURNS SETOF date
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = audit, pg_temp SET timezone = 'UTC' SET lock_timeout = '3s'
AS $$
DECLARE
    leaf text;
    its_day date;
BEGIN
    IF oldest > current_date - 7 THEN
        RAISE EXCEPTION 'the log keeps at least the last 7 days' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    PERFORM pg_advisory_xact_lock(hashtext('audit.request_log'), 0);
    FOR leaf IN
        SELECT child.relname FROM pg_inherits JOIN pg_class AS child ON child.oid = inhrelid
         WHERE inhparent = 'audit.request_log'::regclass ORDER BY child.relname
    LOOP
        its_day := to_date(right(leaf, 8), 'YYYYMMDD');
        IF its_day < oldest THEN
            EXECUTE format('DROP TABLE audit.%I', leaf);
            RETURN NEXT its_day;
        END IF;
    END LOOP;
END
$$;


-- What others read. usage_by_day and usage_by_endpoint hold requests without a user under the nil uuid.
CREATE VIEW requests AS
    SELECT event_id, event_id AS request_id, user_id, username, key_id, endpoint, method, status, duration_ms, rows,
           credits_used_mc, ip, dataset, hold_id, error_code, action, target, created_at
      FROM request_log;

CREATE VIEW usage_by_endpoint AS
    SELECT user_id, day, endpoint, requests, errors, rows, credits_used_mc FROM daily_usage;

CREATE VIEW usage_by_day AS
    SELECT user_id, day, sum(requests)::bigint AS requests, sum(errors)::bigint AS errors, sum(rows)::bigint AS rows,
           sum(credits_used_mc)::bigint AS credits_used_mc
      FROM daily_usage GROUP BY user_id, day;

CREATE VIEW totals_by_day AS
    SELECT day, requests, errors, rows, credits_used_mc FROM daily_totals;

-- Several days together: latency_ms(sum_counts(latency), 0.95).
CREATE VIEW latency_by_day AS
    SELECT day, requests, latency_ms(latency, 0.5) AS p50_ms, latency_ms(latency, 0.95) AS p95_ms,
           latency_ms(latency, 0.99) AS p99_ms, latency
      FROM daily_totals;


GRANT SELECT, INSERT ON request_log TO audit;
GRANT SELECT, INSERT, UPDATE ON daily_usage, daily_totals, consumer_offsets TO audit;
GRANT SELECT ON requests, usage_by_endpoint, usage_by_day, totals_by_day, latency_by_day TO audit;
REVOKE ALL ON FUNCTION ensure_day(date), drop_days_before(date) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ensure_day(date), drop_days_before(date) TO audit;

GRANT USAGE ON SCHEMA audit TO gateway, credits;
GRANT SELECT ON requests, usage_by_endpoint, usage_by_day, totals_by_day, latency_by_day TO gateway;
GRANT SELECT ON requests TO credits;
