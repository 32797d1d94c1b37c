-- +goose Up
-- The decision register: see shared/twopc. The first row of a gid is the truth about it for ever; only what follows
-- "carrying it out" below ever changes.
CREATE TABLE decision (
    gid          uuid        PRIMARY KEY,
    outcome      text        NOT NULL CHECK (outcome IN ('committed', 'aborted')),
    reason       jsonb,                                -- why aborted, as a problem
    digest       bytea,                                -- of the branches; NULL where only the gid was known
    branches     jsonb       NOT NULL,                 -- [{"branch": 0, "service": "product"}, …] that must be told
    deadline     timestamptz,
    decided_at   timestamptz NOT NULL DEFAULT clock_timestamp(),

    -- Carrying it out.
    completed_at timestamptz,                          -- every branch has answered
    heuristic    boolean     NOT NULL DEFAULT false,   -- a branch contradicts it
    attempts     integer     NOT NULL DEFAULT 0,       -- drives by recovery
    next_at      timestamptz NOT NULL,                 -- when recovery may take it: the lease of whoever drives it now
    timeline     jsonb       NOT NULL DEFAULT '[]'
);
CREATE INDEX decision_due ON decision (next_at) WHERE completed_at IS NULL;
CREATE INDEX decision_newest ON decision (decided_at DESC, gid DESC);

-- +goose Down
DROP TABLE decision;
