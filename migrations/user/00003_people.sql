-- +goose Up
-- av is the version of what somebody may do: a change of roles or password, and a disabled account, make it higher, and
-- access tokens with a lower one are good no longer.
ALTER TABLE account ADD COLUMN av bigint NOT NULL DEFAULT 0;

ALTER TABLE session
    ADD COLUMN method  text NOT NULL DEFAULT 'password', -- or the name of an identity provider
    ADD COLUMN device  text NOT NULL DEFAULT '' CHECK (char_length(device) <= 100),
    ADD COLUMN network text NOT NULL DEFAULT '',         -- of its last use, no whole address
    ADD COLUMN used_at timestamptz,                      -- null: not since it began
    DROP CONSTRAINT session_revoked_for_check,
    ADD CONSTRAINT session_revoked_for_check CHECK (revoked_for IN ('logout', 'reuse', 'disabled', 'ended', 'password'));
CREATE INDEX session_of_user ON session (user_id, id);

ALTER TABLE account_history
    DROP CONSTRAINT account_history_changed_check,
    ADD CONSTRAINT account_history_changed_check CHECK (changed IN ('state', 'roles', 'password'));

-- What was called back lately: of each row, a session, a user's tokens below a version, or a key. Who follows asks for the
-- transactions after a cursor; the number of the oldest one that was still open is the next cursor, so none is missed that
-- commits later than one that began after it.
CREATE TABLE revocation (
    transaction xid8        NOT NULL DEFAULT pg_current_xact_id(),
    user_id     uuid,
    version     bigint,
    session_id  uuid,
    key         text,
    at          timestamptz NOT NULL,
    CHECK ((version IS NOT NULL)::int + (session_id IS NOT NULL)::int + (key IS NOT NULL)::int = 1),
    CHECK (version IS NULL OR user_id IS NOT NULL)
);
CREATE INDEX revocation_transaction ON revocation (transaction);
CREATE INDEX revocation_at ON revocation (at);

ALTER TABLE signing_key
    ADD COLUMN not_before timestamptz, -- of a next one: when it becomes the active one
    ADD COLUMN retired_at timestamptz;
CREATE UNIQUE INDEX signing_key_next ON signing_key (state) WHERE state = 'next';

-- +goose Down
DROP INDEX signing_key_next;
ALTER TABLE signing_key DROP COLUMN not_before, DROP COLUMN retired_at;
DROP TABLE revocation;
DROP INDEX session_of_user;
DELETE FROM session WHERE revoked_for IN ('ended', 'password');
ALTER TABLE session
    DROP COLUMN method, DROP COLUMN device, DROP COLUMN network, DROP COLUMN used_at,
    DROP CONSTRAINT session_revoked_for_check,
    ADD CONSTRAINT session_revoked_for_check CHECK (revoked_for IN ('logout', 'reuse', 'disabled'));
DELETE FROM account_history WHERE changed = 'password';
ALTER TABLE account_history
    DROP CONSTRAINT account_history_changed_check,
    ADD CONSTRAINT account_history_changed_check CHECK (changed IN ('state', 'roles'));
ALTER TABLE account DROP COLUMN av;
