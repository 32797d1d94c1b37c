-- +goose Up
-- Tries at passwords, by what they are counted for: SHA-256 of it. Not logged: after a crash everybody's count is zero.
CREATE UNLOGGED TABLE login_bucket (
    key           bytea            PRIMARY KEY CHECK (octet_length(key) = 32),
    level         double precision NOT NULL, -- tries that count still, as of at
    at            timestamptz      NOT NULL,
    blocked_until timestamptz      NOT NULL
);
CREATE INDEX login_bucket_at ON login_bucket (at);

-- Browsers that somebody has signed in with: they keep a bucket of their own.
CREATE TABLE device (
    digest  bytea       NOT NULL CHECK (octet_length(digest) = 32), -- SHA-256 of the cookie
    user_id uuid        NOT NULL REFERENCES account (id),
    used_at timestamptz NOT NULL,
    PRIMARY KEY (digest, user_id)
);
CREATE INDEX device_used_at ON device (used_at);

-- +goose Down
DROP TABLE device;
DROP TABLE login_bucket;
