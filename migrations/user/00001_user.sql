-- +goose Up
-- An account. The e-mail address is kept in the one form it is compared in: trimmed, NFC, lower case.
CREATE TABLE account (
    id            uuid        PRIMARY KEY,
    email         text        NOT NULL CHECK (char_length(email) BETWEEN 3 AND 254),
    password_hash text        NOT NULL CHECK (password_hash LIKE '$argon2id$%'), -- nothing else can be stored by mistake
    display_name  text        NOT NULL CHECK (char_length(display_name) BETWEEN 1 AND 100),
    state         text        NOT NULL CHECK (state IN ('active', 'disabled')),
    created_at    timestamptz NOT NULL,
    updated_at    timestamptz NOT NULL
);
CREATE UNIQUE INDEX account_email ON account (email);
CREATE INDEX account_email_prefix ON account (email text_pattern_ops); -- the admins' search by the beginning

CREATE TABLE account_role (
    user_id    uuid        NOT NULL REFERENCES account (id),
    role       text        NOT NULL CHECK (role IN ('customer', 'admin')),
    granted_by uuid,                    -- null: came with the account
    granted_at timestamptz NOT NULL,
    PRIMARY KEY (user_id, role)
);

-- Every change of an account's state or roles, for good.
CREATE TABLE account_history (
    id         uuid        PRIMARY KEY,
    user_id    uuid        NOT NULL REFERENCES account (id),
    changed    text        NOT NULL CHECK (changed IN ('state', 'roles')),
    was        text        NOT NULL,    -- roles: separated by commas
    became     text        NOT NULL,
    actor      uuid        NOT NULL,    -- the account itself, when it is opened
    request_id text        NOT NULL,
    at         timestamptz NOT NULL
);
CREATE INDEX account_history_user ON account_history (user_id, id);

-- A session begins with a login and is the family of all refresh tokens that follow from it.
CREATE TABLE session (
    id          uuid        PRIMARY KEY,
    user_id     uuid        NOT NULL REFERENCES account (id),
    created_at  timestamptz NOT NULL,
    expires_at  timestamptz NOT NULL,   -- whatever happens
    revoked_at  timestamptz,
    revoked_for text        CHECK (revoked_for IN ('logout', 'reuse', 'disabled')),
    CHECK ((revoked_at IS NULL) = (revoked_for IS NULL))
);
CREATE INDEX session_live ON session (user_id) WHERE revoked_at IS NULL;
CREATE INDEX session_expires_at ON session (expires_at);

-- The tokens themselves are stored nowhere, only what SHA-256 makes of them (they are 256 random bits, so that suffices).
CREATE TABLE refresh_token (
    digest     bytea       PRIMARY KEY CHECK (octet_length(digest) = 32),
    session_id uuid        NOT NULL REFERENCES session (id) ON DELETE CASCADE,
    parent     bytea,                   -- the token this one was given for; null for the login's
    issued_at  timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    used_at    timestamptz              -- a token is good once
);
CREATE INDEX refresh_token_session ON refresh_token (session_id);

-- The keys that sign access tokens.
CREATE TABLE signing_key (
    kid         text        PRIMARY KEY,
    private_key bytea       NOT NULL,   -- PKCS #8
    state       text        NOT NULL CHECK (state IN ('next', 'active', 'retired', 'revoked')),
    created_at  timestamptz NOT NULL
);
CREATE UNIQUE INDEX signing_key_active ON signing_key (state) WHERE state = 'active';

CREATE TABLE address (
    id          uuid        PRIMARY KEY,
    user_id     uuid        NOT NULL REFERENCES account (id),
    label       text        NOT NULL,
    recipient   text        NOT NULL,
    line1       text        NOT NULL,
    line2       text        NOT NULL,
    city        text        NOT NULL,
    region      text        NOT NULL,
    postal_code text        NOT NULL,
    country     text        NOT NULL CHECK (country ~ '^[A-Z]{2}$'),
    phone       text        NOT NULL,
    is_default  boolean     NOT NULL,
    created_at  timestamptz NOT NULL,
    updated_at  timestamptz NOT NULL
);
CREATE INDEX address_user ON address (user_id, id);
CREATE UNIQUE INDEX address_default ON address (user_id) WHERE is_default;

-- Reward points. available has no lower bound here: what was earned may have to be given back after it was spent. That
-- nobody spends more than there is, is the guard of the one statement that spends.
CREATE TABLE points_account (
    user_id   uuid   PRIMARY KEY REFERENCES account (id),
    available bigint NOT NULL DEFAULT 0,
    held      bigint NOT NULL DEFAULT 0 CHECK (held >= 0)
);

-- What moved for good: at rest, available + held is the sum of points, and held is what branches in doubt hold.
CREATE TABLE points_entry (
    id         uuid        PRIMARY KEY,
    user_id    uuid        NOT NULL REFERENCES points_account (user_id),
    gid        uuid        NOT NULL,
    kind       text        NOT NULL CHECK (kind IN ('earn', 'spend', 'take_back')),
    points     bigint      NOT NULL CHECK ((kind = 'earn') = (points > 0) AND points <> 0),
    reference  text        NOT NULL,
    created_at timestamptz NOT NULL
);
CREATE INDEX points_entry_user ON points_entry (user_id, id);

-- +goose Down
DROP TABLE points_entry;
DROP TABLE points_account;
DROP TABLE address;
DROP TABLE signing_key;
DROP TABLE refresh_token;
DROP TABLE session;
DROP TABLE account_history;
DROP TABLE account_role;
DROP TABLE account;
