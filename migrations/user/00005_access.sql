-- +goose Up
-- The roles of the shop; a role may end by itself.
ALTER TABLE account_role
    DROP CONSTRAINT account_role_role_check,
    ADD CONSTRAINT account_role_role_check CHECK (role IN
        ('customer', 'admin', 'catalogue_manager', 'support', 'finance', 'auditor', 'data_scientist', 'key_custodian')),
    ADD COLUMN valid_until timestamptz, -- null: until it is taken away
    ADD CONSTRAINT account_role_not_by_oneself CHECK (granted_by IS NULL OR granted_by <> user_id);

-- Where somebody works and the highest class of sensitive data they may see: given to them, never theirs to say.
ALTER TABLE account
    ADD COLUMN location  text     NOT NULL DEFAULT '' CHECK (location ~ '^[A-Za-z0-9 -]{0,50}$'),
    ADD COLUMN clearance smallint NOT NULL DEFAULT 0 CHECK (clearance BETWEEN 0 AND 9);

ALTER TABLE account_history
    DROP CONSTRAINT account_history_changed_check,
    ADD CONSTRAINT account_history_changed_check CHECK (changed IN ('state', 'roles', 'password', 'attributes'));

-- Roles that nobody has at once. The policies say the same; here it holds even for who comes past them.
CREATE TABLE role_conflict (
    one   text NOT NULL,
    other text NOT NULL CHECK (one < other),
    PRIMARY KEY (one, other)
);
INSERT INTO role_conflict (one, other) VALUES
    ('admin', 'auditor'), ('admin', 'data_scientist'), ('admin', 'key_custodian'), ('finance', 'support');

-- +goose StatementBegin
CREATE FUNCTION no_conflicting_roles() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM account_role r JOIN role_conflict c
            ON c.one = least(r.role, NEW.role) AND c.other = greatest(r.role, NEW.role)
            WHERE r.user_id = NEW.user_id AND (r.valid_until IS NULL OR r.valid_until > now())) THEN
        RAISE EXCEPTION 'the role % conflicts with another', NEW.role USING ERRCODE = 'check_violation';
    END IF;
    RETURN NULL;
END $$;
-- +goose StatementEnd
CREATE TRIGGER no_conflicting_roles AFTER INSERT OR UPDATE ON account_role FOR EACH ROW EXECUTE FUNCTION no_conflicting_roles();

-- +goose Down
DROP TRIGGER no_conflicting_roles ON account_role;
DROP FUNCTION no_conflicting_roles;
DROP TABLE role_conflict;
DELETE FROM account_history WHERE changed = 'attributes';
ALTER TABLE account_history
    DROP CONSTRAINT account_history_changed_check,
    ADD CONSTRAINT account_history_changed_check CHECK (changed IN ('state', 'roles', 'password'));
ALTER TABLE account DROP COLUMN location, DROP COLUMN clearance;
DELETE FROM account_role WHERE role NOT IN ('customer', 'admin');
ALTER TABLE account_role
    DROP CONSTRAINT account_role_not_by_oneself,
    DROP COLUMN valid_until,
    DROP CONSTRAINT account_role_role_check,
    ADD CONSTRAINT account_role_role_check CHECK (role IN ('customer', 'admin'));
