-- The ledger. Amounts are millicredits. Postgres refuses what must never be: the service's own role cannot write a
-- table directly, only through the functions of the files that follow, which this schema's owner runs.

CREATE TABLE accounts (
    user_id        uuid PRIMARY KEY,
    posted         bigint NOT NULL DEFAULT 0 CHECK (posted BETWEEN 0 AND 1000000000000000),
    held           bigint NOT NULL DEFAULT 0 CHECK (held >= 0),
    low_balance    bigint NOT NULL DEFAULT 0 CHECK (low_balance >= 0),
    created_at     timestamptz NOT NULL DEFAULT now(),
    updated_at     timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT accounts_never_owe CHECK (posted >= held)
) WITH (fillfactor = 50);  -- a hot account is rewritten in its own page

CREATE TABLE holds (
    hold_id         uuid PRIMARY KEY,
    user_id         uuid NOT NULL,
    amount          bigint NOT NULL CHECK (amount >= 0),
    state           text NOT NULL CHECK (state IN ('open', 'captured', 'released', 'expired')),
    captured        bigint NOT NULL DEFAULT 0,
    reason          text,
    idempotency_key text,  -- null: the caller had none, hold_id alone tells a retry
    request_digest  bytea NOT NULL CHECK (length(request_digest) = 32),
    expires_at      timestamptz NOT NULL,
    created_at      timestamptz NOT NULL,
    closed_at       timestamptz,
    CONSTRAINT holds_capture_within CHECK (captured BETWEEN 0 AND amount),
    CONSTRAINT holds_capture_only_captured CHECK (captured = 0 OR state = 'captured'),
    CONSTRAINT holds_closed_when CHECK ((state = 'open') = (closed_at IS NULL))
) WITH (fillfactor = 80);
CREATE INDEX holds_open ON holds (expires_at) WHERE state = 'open';
CREATE INDEX holds_age ON holds USING brin (created_at);

CREATE TABLE entries (
    seq          bigint GENERATED ALWAYS AS IDENTITY,  -- given under the account's lock: the order of its statement
    entry_id     uuid PRIMARY KEY,
    user_id      uuid NOT NULL,
    kind         text NOT NULL CHECK (kind IN ('grant', 'capture', 'refund', 'adjustment')),
    amount       bigint NOT NULL,
    posted_after bigint NOT NULL CHECK (posted_after >= 0),
    hold_id      uuid,
    reference    uuid,
    actor        text,
    reason       text,
    created_at   timestamptz NOT NULL,
    CONSTRAINT entries_sign CHECK (
        CASE kind WHEN 'capture' THEN amount < 0 WHEN 'adjustment' THEN amount <> 0 ELSE amount > 0 END),
    -- A capture has its hold's id, so the primary key itself refuses to charge a hold twice.
    CONSTRAINT entries_capture_is_of_hold CHECK (
        CASE kind WHEN 'capture' THEN hold_id = entry_id AND hold_id IS NOT NULL ELSE hold_id IS NULL END),
    CONSTRAINT entries_refund_names_entry CHECK ((kind = 'refund') = (reference IS NOT NULL))
);
CREATE INDEX entries_statement ON entries (user_id, seq);
CREATE INDEX entries_age ON entries USING brin (created_at);
CREATE INDEX entries_refunds ON entries (reference) WHERE kind = 'refund';

CREATE TABLE receipts (
    hold_id       uuid PRIMARY KEY,
    query_id      uuid NOT NULL,
    user_id       uuid NOT NULL,
    dataset       text NOT NULL,
    state         text NOT NULL CHECK (state IN ('captured', 'released')),
    rows          bigint NOT NULL CHECK (rows >= 0),
    credits_held  bigint NOT NULL,
    credits_used  bigint NOT NULL,
    price_version text NOT NULL,
    price         json NOT NULL,
    duration_ms   double precision NOT NULL,
    refund_reason text,
    created_at    timestamptz NOT NULL,
    CONSTRAINT receipts_used_within CHECK (credits_used BETWEEN 0 AND credits_held),
    CONSTRAINT receipts_released_costs_nothing CHECK (state = 'captured' OR credits_used = 0)
);
-- Most callers give a query and its hold the same id.
CREATE INDEX receipts_query ON receipts (query_id) WHERE query_id <> hold_id;
CREATE INDEX receipts_age ON receipts USING brin (created_at);

CREATE TABLE answers (
    user_id         uuid NOT NULL,
    idempotency_key text NOT NULL,
    hold_id         uuid NOT NULL,
    status          integer NOT NULL,
    headers         jsonb NOT NULL,
    body            bytea NOT NULL CHECK (length(body) <= 1048576),
    created_at      timestamptz NOT NULL,
    PRIMARY KEY (user_id, idempotency_key)
);
-- Kept for a day only, and written under an account's lock: compressing them there would cost more than it saves.
ALTER TABLE answers ALTER COLUMN body SET STORAGE EXTERNAL;
CREATE INDEX answers_age ON answers USING brin (created_at);

CREATE TABLE idempotency (
    user_id         uuid NOT NULL,
    key             text NOT NULL,
    request_digest  bytea NOT NULL,
    hold_id         uuid,
    entry_id        uuid,
    amount          bigint NOT NULL,
    posted_after    bigint NOT NULL,
    available_after bigint NOT NULL,
    created_at      timestamptz NOT NULL,
    PRIMARY KEY (user_id, key)
);
CREATE INDEX idempotency_age ON idempotency USING brin (created_at);

CREATE TABLE outbox (
    seq        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,  -- given under the account's lock: a user's order
    event_id   uuid NOT NULL,
    user_id    uuid NOT NULL,
    kind       text NOT NULL CHECK (kind IN ('granted', 'captured', 'refunded', 'low_balance', 'exhausted')),
    posted     bigint NOT NULL,  -- after the event, as is available
    available  bigint NOT NULL,
    entry_id   uuid,
    amount     bigint,
    hold_id    uuid,
    threshold  bigint,
    created_at timestamptz NOT NULL
);

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'credits.% does not allow this %', TG_TABLE_NAME, lower(TG_OP) USING ERRCODE = 'restrict_violation';
END $$;

CREATE TRIGGER entries_append_only BEFORE UPDATE OR DELETE ON entries
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER entries_never_emptied BEFORE TRUNCATE ON entries
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
-- Exactly one transition, ever. WHEN is judged without calling the function, so an ordinary close pays nothing.
CREATE TRIGGER holds_close_once BEFORE UPDATE ON holds
    FOR EACH ROW WHEN (OLD.state <> 'open') EXECUTE FUNCTION refuse_change();
CREATE TRIGGER holds_money_stays BEFORE DELETE ON holds
    FOR EACH ROW WHEN (OLD.state IN ('open', 'captured')) EXECUTE FUNCTION refuse_change();

CREATE VIEW balances AS SELECT user_id, posted, held, posted - held AS available FROM accounts;

GRANT SELECT ON ALL TABLES IN SCHEMA credits TO credits;
GRANT USAGE ON SCHEMA credits TO gateway;
GRANT SELECT ON balances TO gateway;
