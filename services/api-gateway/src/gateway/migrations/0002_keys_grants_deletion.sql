-- What keys and users gain: a key's own limit, a grant of a dataset to one user, a deletion that is for good.

-- Beside the plan's: a key that is handed out for one purpose should not be able to use up all of its user's rate.
ALTER TABLE api_keys ADD COLUMN requests_per_minute integer CHECK (requests_per_minute BETWEEN 1 AND 10000000);

-- Who may use a dataset that its declaration (`access`) does not open to them.
CREATE TABLE dataset_grants (
    user_id    uuid        NOT NULL REFERENCES users (id),
    dataset    text        NOT NULL CHECK (dataset ~ '^[a-z][a-z0-9_]{0,62}$'),
    granted_by uuid        NOT NULL,
    granted_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (user_id, dataset)
);

-- A deleted user keeps the id, under which ledger and log stay true, and nothing else of who it was.
ALTER TABLE users ADD COLUMN deleted_at timestamptz,
                  ADD CHECK (deleted_at IS NULL OR status = 'disabled');

GRANT SELECT, INSERT, DELETE ON dataset_grants TO gateway;
