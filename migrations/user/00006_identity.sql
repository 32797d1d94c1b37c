-- +goose Up
-- Whom other identity providers vouch for. A person is named by issuer and subject, and by nothing else: an e-mail address
-- is somebody else's tomorrow.
CREATE TABLE identity (
    issuer    text        NOT NULL,
    subject   text        NOT NULL CHECK (char_length(subject) BETWEEN 1 AND 255),
    user_id   uuid        NOT NULL REFERENCES account (id),
    provider  text        NOT NULL, -- its name here
    linked_at timestamptz NOT NULL,
    PRIMARY KEY (issuer, subject)
);
CREATE INDEX identity_user ON identity (user_id);

-- Sign-ins with other providers that are under way, by SHA-256 of the cookie that the browser has.
CREATE TABLE sign_in (
    digest     bytea       PRIMARY KEY CHECK (octet_length(digest) = 32),
    provider   text        NOT NULL,
    state      text        NOT NULL,
    nonce      text        NOT NULL,
    verifier   text        NOT NULL,
    return_to  text        NOT NULL,
    person     bytea,                -- sealed: whom the provider vouches for; null until the browser has come back
    expires_at timestamptz NOT NULL
);
CREATE INDEX sign_in_expires_at ON sign_in (expires_at);

-- Signing keys are sealed; the service seals those that are plain when it starts. The plain column is for a later migration
-- to drop.
ALTER TABLE signing_key
    ADD COLUMN sealed_key bytea,
    ALTER COLUMN private_key DROP NOT NULL,
    ADD CONSTRAINT signing_key_one_form CHECK (num_nonnulls(private_key, sealed_key) = 1);

-- +goose Down
-- Nothing here can open what is sealed: the service makes a new key.
DELETE FROM signing_key WHERE sealed_key IS NOT NULL;
ALTER TABLE signing_key DROP CONSTRAINT signing_key_one_form, DROP COLUMN sealed_key, ALTER COLUMN private_key SET NOT NULL;
DROP TABLE sign_in;
DROP TABLE identity;
