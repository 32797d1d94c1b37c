-- +goose Up
-- Where a service keeps things sealed, so are the answers that tell of them.
ALTER TABLE idempotency_key ADD COLUMN sealed_answer bytea;

-- +goose Down
DELETE FROM idempotency_key WHERE sealed_answer IS NOT NULL;
ALTER TABLE idempotency_key DROP COLUMN sealed_answer;
