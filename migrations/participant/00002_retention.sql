-- +goose Up
-- The finished branches by age, for souk/shared/twopc to forget. Only finished ones enter it, at its right edge: one cheap
-- insertion per branch.
CREATE INDEX tx_branch_finished ON tx_branch (prepared_at, gid, branch) WHERE state <> 'prepared';

-- +goose Down
DROP INDEX tx_branch_finished;
