-- Who may call. Balances are not here: the credits service owns them, under the same user ids.

CREATE TABLE users (
    id           uuid        PRIMARY KEY,
    username     text        NOT NULL CHECK (length(username) BETWEEN 1 AND 64),
    role         text        NOT NULL CHECK (role IN ('super_admin', 'admin', 'viewer', 'user')),
    -- A user is made disabled, then gets an account and credits, then becomes active (activated_at): a creation that
    -- broke off in between is continued by repeating it, and nobody can use the user before it is whole.
    status       text        NOT NULL DEFAULT 'disabled' CHECK (status IN ('active', 'disabled')),
    plan         text        NOT NULL,
    credits_mc   bigint      NOT NULL CHECK (credits_mc >= 0),  -- the first grant, so that a repeat grants the same
    created_at   timestamptz NOT NULL DEFAULT now(),
    activated_at timestamptz,
    CHECK (status = 'disabled' OR activated_at IS NOT NULL)
);

-- Names that differ only in case would be told apart by machines and confused by people.
CREATE UNIQUE INDEX users_username ON users (lower(username));
CREATE INDEX users_newest ON users (created_at DESC, id DESC);

CREATE TABLE api_keys (
    id           uuid        PRIMARY KEY,
    user_id      uuid        NOT NULL REFERENCES users (id),
    name         text        NOT NULL DEFAULT '',
    prefix       text        NOT NULL,
    key_sha256   text        NOT NULL UNIQUE CHECK (key_sha256 ~ '^[0-9a-f]{64}$'),
    scopes       text[],     -- null: those of the user's role
    created_at   timestamptz NOT NULL DEFAULT now(),
    expires_at   timestamptz,
    revoked_at   timestamptz,
    last_used_at timestamptz
);

CREATE INDEX api_keys_of_user ON api_keys (user_id);

GRANT SELECT, INSERT, UPDATE ON users, api_keys TO gateway;
