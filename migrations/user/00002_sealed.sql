-- +goose Up
-- Who people are and where they live is sealed (shared/seal), and found by a keyed index. The service seals what is still
-- plain when it starts; a row has one form or the other. The plain columns are for a later migration to drop. While the
-- instances of the version before are being replaced they do not see accounts that are sealed already: that is what this is for.
ALTER TABLE account
    ADD COLUMN sealed_email bytea,
    ADD COLUMN sealed_name  bytea,
    ADD COLUMN email_index  bytea CHECK (octet_length(email_index) = 16),
    ALTER COLUMN email DROP NOT NULL,
    ALTER COLUMN display_name DROP NOT NULL,
    ADD CONSTRAINT account_one_form CHECK (num_nonnulls(email, display_name) IN (0, 2)
        AND num_nonnulls(sealed_email, sealed_name, email_index) = CASE WHEN email IS NULL THEN 3 ELSE 0 END);
CREATE UNIQUE INDEX account_email_index ON account (email_index);

ALTER TABLE address
    ADD COLUMN sealed bytea, -- all of the columns that may be null now, as JSON
    ALTER COLUMN label DROP NOT NULL,
    ALTER COLUMN recipient DROP NOT NULL,
    ALTER COLUMN line1 DROP NOT NULL,
    ALTER COLUMN line2 DROP NOT NULL,
    ALTER COLUMN city DROP NOT NULL,
    ALTER COLUMN region DROP NOT NULL,
    ALTER COLUMN postal_code DROP NOT NULL,
    ALTER COLUMN country DROP NOT NULL,
    ALTER COLUMN phone DROP NOT NULL,
    ADD CONSTRAINT address_one_form CHECK (num_nonnulls(label, recipient, line1, line2, city, region, postal_code, country, phone)
        = CASE WHEN sealed IS NULL THEN 9 ELSE 0 END);

-- +goose Down
-- Nothing here can open what is sealed: a database with accounts in it stays as it is.
DELETE FROM address WHERE sealed IS NOT NULL;
ALTER TABLE address
    DROP CONSTRAINT address_one_form,
    DROP COLUMN sealed,
    ALTER COLUMN label SET NOT NULL,
    ALTER COLUMN recipient SET NOT NULL,
    ALTER COLUMN line1 SET NOT NULL,
    ALTER COLUMN line2 SET NOT NULL,
    ALTER COLUMN city SET NOT NULL,
    ALTER COLUMN region SET NOT NULL,
    ALTER COLUMN postal_code SET NOT NULL,
    ALTER COLUMN country SET NOT NULL,
    ALTER COLUMN phone SET NOT NULL;
ALTER TABLE account
    DROP CONSTRAINT account_one_form,
    ALTER COLUMN email SET NOT NULL,
    ALTER COLUMN display_name SET NOT NULL,
    DROP COLUMN sealed_email, DROP COLUMN sealed_name, DROP COLUMN email_index;
