-- +goose Up
-- The keys that seal what else is in this database: see shared/seal. Each set of keys is sealed itself, by a key that is
-- not here.
CREATE TABLE keyset (
    name       text        PRIMARY KEY,
    wrapped    bytea       NOT NULL,
    version    bigint      NOT NULL DEFAULT 1,  -- goes up with every change, by which the instances notice
    changed_at timestamptz NOT NULL DEFAULT now()
);

-- +goose Down
DROP TABLE keyset;
