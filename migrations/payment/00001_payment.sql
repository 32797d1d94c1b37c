-- +goose Up
-- The ledger, and what moves money in it. Amounts are minor units. See services/payment/doc.go for the invariants; each
-- of them that SQL can hold is held here, so that no bug above can break it.

-- An account is named by what it is: a person's wallet, or one of the shop's own accounts (the owner is then nobody).
-- Its balance, available plus held, is the sum of its entries.
CREATE TABLE account (
    kind      text   NOT NULL CHECK (kind IN ('wallet', 'merchant', 'clearing', 'rewards')),
    owner     uuid   NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
    currency  text   NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    available bigint NOT NULL DEFAULT 0,
    held      bigint NOT NULL DEFAULT 0 CHECK (held >= 0),
    PRIMARY KEY (kind, owner, currency),
    CONSTRAINT account_never_below_zero CHECK (available >= 0 OR kind IN ('clearing', 'rewards')),
    CONSTRAINT account_wallet_has_owner CHECK ((kind = 'wallet') = (owner <> '00000000-0000-0000-0000-000000000000'))
);
-- The wallets of a person.
CREATE INDEX account_owner ON account (owner, currency) WHERE kind = 'wallet';

-- One movement of money, for one thing: what it refers to moves money once, whoever tries twice.
CREATE TABLE movement (
    movement_id uuid        PRIMARY KEY,
    kind        text        NOT NULL CHECK (kind IN ('top_up', 'capture', 'refund', 'credit')),
    reference   uuid        NOT NULL,
    gid         uuid,                           -- the distributed transaction it is part of, if any
    request_id  text        NOT NULL,
    created_at  timestamptz NOT NULL,
    UNIQUE (kind, reference)
);

-- The reference to account is checked at commit: by then this transaction has the account's row to itself, and no
-- crowd of sharers gathers on the merchant's.
CREATE TABLE entry (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    movement_id uuid   NOT NULL REFERENCES movement,
    kind        text   NOT NULL,
    owner       uuid   NOT NULL,
    currency    text   NOT NULL,
    amount      bigint NOT NULL CHECK (amount <> 0),
    FOREIGN KEY (kind, owner, currency) REFERENCES account DEFERRABLE INITIALLY DEFERRED
);
CREATE INDEX entry_movement ON entry (movement_id);
CREATE INDEX entry_account ON entry (kind, owner, currency, id);

-- Every movement is two or more entries that sum to zero in each currency.
-- +goose StatementBegin
CREATE FUNCTION movement_sums_to_zero() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (SELECT count(*) FROM entry WHERE movement_id = NEW.movement_id) < 2
        OR EXISTS (SELECT FROM entry WHERE movement_id = NEW.movement_id GROUP BY currency HAVING sum(amount) <> 0) THEN
        RAISE EXCEPTION 'movement % does not balance', NEW.movement_id USING ERRCODE = 'check_violation';
    END IF;
    RETURN NULL;
END $$;
-- +goose StatementEnd
CREATE CONSTRAINT TRIGGER movement_sums_to_zero AFTER INSERT ON movement
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION movement_sums_to_zero();
CREATE CONSTRAINT TRIGGER entry_sums_to_zero AFTER INSERT ON entry
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION movement_sums_to_zero();

-- What has been written down is never changed.
-- +goose StatementBegin
CREATE FUNCTION append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
END $$;
-- +goose StatementEnd
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON movement FOR EACH STATEMENT EXECUTE FUNCTION append_only();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON entry FOR EACH STATEMENT EXECUTE FUNCTION append_only();

CREATE TABLE payment (
    id            uuid        PRIMARY KEY,
    gid           uuid        NOT NULL,
    order_id      uuid        NOT NULL,
    user_id       uuid        NOT NULL,
    amount        bigint      NOT NULL CHECK (amount > 0),
    currency      text        NOT NULL,
    status        text        NOT NULL CHECK (status IN ('authorized', 'captured', 'partially_refunded', 'refunded', 'voided')),
    refunded      bigint      NOT NULL DEFAULT 0 CHECK (refunded BETWEEN 0 AND amount),
    void_asked_by uuid,                         -- the person who had it voided, if one did
    created_at    timestamptz NOT NULL,
    updated_at    timestamptz NOT NULL,
    CONSTRAINT payment_status_tells_refunded CHECK (CASE status
        WHEN 'refunded' THEN refunded = amount
        WHEN 'partially_refunded' THEN refunded > 0 AND refunded < amount
        ELSE refunded = 0 END)
);
-- An order is never charged twice.
CREATE UNIQUE INDEX payment_one_per_order ON payment (order_id) WHERE status <> 'voided';
CREATE INDEX payment_order ON payment (order_id, created_at, id);
CREATE INDEX payment_user ON payment (user_id, created_at, id);
CREATE INDEX payment_created ON payment (created_at, id);

CREATE TABLE payment_move (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    payment_id  uuid        NOT NULL REFERENCES payment,
    from_status text        NOT NULL,           -- empty for the first
    to_status   text        NOT NULL,
    actor       uuid,                           -- null: the shop itself
    gid         uuid        NOT NULL,
    request_id  text        NOT NULL,
    at          timestamptz NOT NULL
);
CREATE INDEX payment_move_payment ON payment_move (payment_id, id);
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON payment_move FOR EACH STATEMENT EXECUTE FUNCTION append_only();

-- A refund is planned (all that its transaction says is fixed), then pending (money held), then one of the ends.
CREATE TABLE refund (
    id              uuid        PRIMARY KEY,
    payment_id      uuid        NOT NULL REFERENCES payment,
    gid             uuid,
    amount          bigint      NOT NULL CHECK (amount > 0),
    currency        text        NOT NULL,
    reason          text        NOT NULL,
    refunded_before bigint      NOT NULL CHECK (refunded_before >= 0), -- of the payment; full, restock and points follow from it
    restock         boolean     NOT NULL,
    status          text        NOT NULL CHECK (status IN ('planned', 'pending', 'succeeded', 'failed')),
    actor           uuid,
    planned_at      timestamptz NOT NULL,
    created_at      timestamptz NOT NULL,
    settled_at      timestamptz,
    CHECK ((settled_at IS NOT NULL) = (status IN ('succeeded', 'failed')))
);
CREATE INDEX refund_payment ON refund (payment_id, created_at, id);
-- Refunds of one payment take turns: whether one completes the payment, and its points, depend on those before it.
CREATE UNIQUE INDEX refund_one_pending ON refund (payment_id) WHERE status = 'pending';

CREATE TABLE transfer (
    id         uuid        PRIMARY KEY,
    gid        uuid        NOT NULL,
    user_id    uuid        NOT NULL,
    points     bigint      NOT NULL CHECK (points > 0),
    amount     bigint      NOT NULL CHECK (amount > 0),
    currency   text        NOT NULL,
    status     text        NOT NULL CHECK (status IN ('pending', 'succeeded', 'failed')),
    created_at timestamptz NOT NULL,
    settled_at timestamptz,
    CHECK ((settled_at IS NOT NULL) = (status <> 'pending'))
);

CREATE TABLE top_up (
    id            uuid        PRIMARY KEY,
    user_id       uuid        NOT NULL,
    amount        bigint      NOT NULL CHECK (amount > 0),
    currency      text        NOT NULL,
    card_brand    text        NOT NULL,
    card_last4    text        NOT NULL CHECK (card_last4 ~ '^[0-9]{4}$'), -- all that is ever kept of a card
    status        text        NOT NULL CHECK (status IN ('pending', 'succeeded', 'failed')),
    failure_code  text        NOT NULL DEFAULT '',
    created_at    timestamptz NOT NULL,
    settled_at    timestamptz,
    next_check_at timestamptz NOT NULL,         -- when reconciliation asks the provider about it
    CHECK ((settled_at IS NOT NULL) = (status <> 'pending')),
    CHECK ((failure_code <> '') = (status = 'failed'))
);
CREATE INDEX top_up_user ON top_up (user_id, created_at, id);
CREATE INDEX top_up_unsettled ON top_up (next_check_at) WHERE status = 'pending';

-- The provider's events that were taken in.
CREATE TABLE provider_event (
    id          uuid        PRIMARY KEY,
    received_at timestamptz NOT NULL
);

-- What the provider's events are signed with, where the environment does not say: all instances share this one.
CREATE TABLE webhook_secret (
    only_one boolean PRIMARY KEY DEFAULT true CHECK (only_one),
    secret   bytea   NOT NULL
);

-- The sandbox provider's own books. They are another company's in real life: nothing joins them with the tables above.
CREATE TABLE sandbox_charge (
    reference  uuid        PRIMARY KEY,
    amount     bigint      NOT NULL CHECK (amount >= 0),   -- zero in a charge that was cancelled before it came
    currency   text        NOT NULL,
    status     text        NOT NULL CHECK (status IN ('succeeded', 'declined', 'cancelled', 'processing')),
    event_id   uuid,                            -- of the webhook that tells the end of a charge that was processing
    due_at     timestamptz,                     -- when it ends, and then when the webhook is sent next; null: acknowledged
    attempts   integer     NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL
);
CREATE INDEX sandbox_charge_due ON sandbox_charge (due_at) WHERE due_at IS NOT NULL;

-- +goose Down
DROP TABLE sandbox_charge, webhook_secret, provider_event, top_up, transfer, refund, payment_move, payment, entry, movement, account;
DROP FUNCTION append_only, movement_sums_to_zero;
