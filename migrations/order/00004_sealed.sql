-- +goose Up
-- What a customer writes to the shop is sealed (shared/seal), and what they write to the payment service only that can open.
-- The service seals the notes that are still plain when it starts, and finds them by the index.
ALTER TABLE orders
    ADD COLUMN sealed_note   bytea CHECK (sealed_note IS NULL OR note = ''),
    ADD COLUMN payout_letter bytea;
CREATE INDEX orders_plain_note ON orders (id) WHERE note <> '';

-- +goose Down
DROP INDEX orders_plain_note;
ALTER TABLE orders DROP COLUMN sealed_note, DROP COLUMN payout_letter;
