-- +goose Up
-- One row per keyed request: see shared/idempotency. Digests only; the answer is what the operation returned.
CREATE TABLE idempotency_key (
    id          bytea PRIMARY KEY,
    fingerprint bytea NOT NULL,
    answer      text,
    created_at  timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX idempotency_key_created_at ON idempotency_key (created_at);

-- +goose Down
DROP TABLE idempotency_key;
