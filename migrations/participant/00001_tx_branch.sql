-- +goose Up
-- What this service knows of each transaction it was asked to take part in: see shared/twopc. A row is written by the
-- first message that names the branch, and is never deleted while a message about it may still come.
CREATE TABLE tx_branch (
    gid         uuid        NOT NULL,
    branch      smallint    NOT NULL,
    state       text        NOT NULL CHECK (state IN ('prepared', 'committed', 'aborted')),
    action      text        NOT NULL,           -- empty in a tombstone: an abort that came before its prepare
    payload     jsonb,
    digest      bytea,                          -- of action and payload, to tell a repetition from a mix-up
    deadline    timestamptz,
    reason      jsonb,                          -- why the vote was no
    prepared_at timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz,
    PRIMARY KEY (gid, branch)
);
-- The branches that voted yes and do not yet know the outcome.
CREATE INDEX tx_branch_in_doubt ON tx_branch (prepared_at) WHERE state = 'prepared';

-- Messages that contradict what this service knows. Each needs a person; none is ever taken for success.
CREATE TABLE tx_heuristic (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    gid        uuid        NOT NULL,
    branch     smallint    NOT NULL,
    asked      text        NOT NULL,            -- committed or aborted
    found      text        NOT NULL,            -- the state of the branch, or 'unknown'
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (gid, branch, asked)
);

-- +goose Down
DROP TABLE tx_heuristic;
DROP TABLE tx_branch;
