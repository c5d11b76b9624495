-- Who is signed in to the console. The cookie's token is stored hashed; the key itself is not stored at all.

CREATE TABLE console_sessions (
    token_sha256 text        PRIMARY KEY CHECK (token_sha256 ~ '^[0-9a-f]{64}$'),
    key_id       uuid        NOT NULL REFERENCES api_keys (id),
    created_at   timestamptz NOT NULL DEFAULT now(),
    seen_at      timestamptz NOT NULL DEFAULT now()
);

-- Sessions that ended are swept at the next sign-in.
CREATE INDEX console_sessions_seen ON console_sessions (seen_at);

GRANT SELECT, INSERT, UPDATE, DELETE ON console_sessions TO gateway;
