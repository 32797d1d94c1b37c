-- +goose Up
-- The secret that a provider's events are signed with is sealed (shared/seal); the service seals one that is still plain
-- when it starts. A payout reference is a letter that only this service can open.
ALTER TABLE webhook_secret
    ADD COLUMN sealed bytea,
    ALTER COLUMN secret DROP NOT NULL,
    ADD CONSTRAINT webhook_secret_one_form CHECK (num_nonnulls(secret, sealed) = 1);
ALTER TABLE payment ADD COLUMN payout_letter bytea;

-- +goose Down
ALTER TABLE payment DROP COLUMN payout_letter;
-- Nothing here can open what is sealed: a new secret is made.
DELETE FROM webhook_secret WHERE sealed IS NOT NULL;
ALTER TABLE webhook_secret
    DROP CONSTRAINT webhook_secret_one_form,
    DROP COLUMN sealed,
    ALTER COLUMN secret SET NOT NULL;
