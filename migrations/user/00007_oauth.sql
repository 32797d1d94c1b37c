-- +goose Up
-- Other people's programs that act for our customers, as OAuth 2.0 clients.
CREATE TABLE oauth_client (
    id            text        PRIMARY KEY,
    secret        bytea       CHECK (octet_length(secret) = 32), -- SHA-256 of 256 random bits; null: a program that can keep none
    name          text        NOT NULL CHECK (char_length(name) BETWEEN 1 AND 100),
    redirect_uris text        NOT NULL, -- separated by spaces; a browser is sent to one of these, letter for letter
    scopes        text        NOT NULL, -- that it may ask for, separated by spaces
    created_by    uuid        NOT NULL,
    created_at    timestamptz NOT NULL,
    removed_at    timestamptz
);

-- What a customer lets a program do is a session of theirs, with a client and scopes: it ends, rotates its refresh tokens and
-- calls back its access tokens as any other.
ALTER TABLE session
    ADD COLUMN client_id text REFERENCES oauth_client (id), -- null: the shop's own
    ADD COLUMN scopes    text NOT NULL DEFAULT '',
    DROP CONSTRAINT session_revoked_for_check,
    ADD CONSTRAINT session_revoked_for_check CHECK (revoked_for IN ('logout', 'reuse', 'disabled', 'ended', 'password', 'client'));
CREATE INDEX session_client ON session (client_id) WHERE client_id IS NOT NULL AND revoked_at IS NULL;

-- Authorization requests, from the browser's arrival to the code's exchange, and a day longer: a code that comes again ends
-- what it was exchanged for.
CREATE TABLE oauth_request (
    id           uuid        PRIMARY KEY,
    client_id    text        NOT NULL REFERENCES oauth_client (id),
    redirect_uri text        NOT NULL,
    state        text        NOT NULL,
    nonce        text        NOT NULL,
    challenge    text        NOT NULL CHECK (char_length(challenge) BETWEEN 43 AND 128), -- PKCE, S256
    scopes       text        NOT NULL,
    expires_at   timestamptz NOT NULL,
    user_id      uuid        REFERENCES account (id), -- who has said yes
    auth_time    timestamptz,
    code         bytea       UNIQUE CHECK (octet_length(code) = 32), -- SHA-256
    code_until   timestamptz,
    used_at      timestamptz,
    replayed     boolean     NOT NULL DEFAULT false,
    session_id   uuid        REFERENCES session (id) ON DELETE SET NULL,
    CHECK ((user_id IS NULL) = (auth_time IS NULL)),
    CHECK (code IS NULL OR user_id IS NOT NULL)
);
CREATE INDEX oauth_request_expires_at ON oauth_request (expires_at);

-- The opaque access tokens that such programs have; the gateway swaps them for tokens that services verify.
CREATE TABLE oauth_token (
    digest     bytea       PRIMARY KEY CHECK (octet_length(digest) = 32),
    session_id uuid        NOT NULL REFERENCES session (id) ON DELETE CASCADE,
    scopes     text        NOT NULL,
    expires_at timestamptz NOT NULL
);
CREATE INDEX oauth_token_session ON oauth_token (session_id);
CREATE INDEX oauth_token_expires_at ON oauth_token (expires_at);

-- ID tokens are signed with keys of their own, so that none is taken for an access token.
ALTER TABLE signing_key ADD COLUMN use text NOT NULL DEFAULT 'access' CHECK (use IN ('access', 'id'));
DROP INDEX signing_key_active;
DROP INDEX signing_key_next;
CREATE UNIQUE INDEX signing_key_active ON signing_key (use) WHERE state = 'active';
CREATE UNIQUE INDEX signing_key_next ON signing_key (use) WHERE state = 'next';

-- +goose Down
DELETE FROM signing_key WHERE use = 'id';
DROP INDEX signing_key_active;
DROP INDEX signing_key_next;
ALTER TABLE signing_key DROP COLUMN use;
CREATE UNIQUE INDEX signing_key_active ON signing_key (state) WHERE state = 'active';
CREATE UNIQUE INDEX signing_key_next ON signing_key (state) WHERE state = 'next';
DROP TABLE oauth_token;
DROP TABLE oauth_request;
DELETE FROM session WHERE client_id IS NOT NULL OR revoked_for = 'client';
ALTER TABLE session
    DROP COLUMN client_id, DROP COLUMN scopes,
    DROP CONSTRAINT session_revoked_for_check,
    ADD CONSTRAINT session_revoked_for_check CHECK (revoked_for IN ('logout', 'reuse', 'disabled', 'ended', 'password'));
DROP TABLE oauth_client;
