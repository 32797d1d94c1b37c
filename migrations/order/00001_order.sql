-- +goose Up
-- An order, and what of it is money. See services/order for what each status means.
CREATE TABLE orders (
    id              uuid        PRIMARY KEY,
    user_id         uuid        NOT NULL,
    status          text        NOT NULL CHECK (status IN ('created', 'paying', 'paid', 'shipped', 'delivered', 'cancelled', 'refunded')),
    currency        text        NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    total_minor     bigint      NOT NULL CHECK (total_minor >= 0),
    refunded_minor  bigint      NOT NULL DEFAULT 0 CHECK (refunded_minor >= 0),
    refunding_minor bigint      NOT NULL DEFAULT 0 CHECK (refunding_minor >= 0), -- prepared and not yet decided
    note            text        NOT NULL DEFAULT '' CHECK (char_length(note) <= 500),
    carrier         text        NOT NULL DEFAULT '' CHECK (char_length(carrier) <= 100),
    tracking        text        NOT NULL DEFAULT '' CHECK (char_length(tracking) <= 100),
    payment_id      uuid,                  -- of the payment under way or done
    pay_gid         uuid,                  -- the transaction that pays or has paid it
    created_at      timestamptz NOT NULL,
    updated_at      timestamptz NOT NULL,
    paid_at         timestamptz,
    -- An order is never given back more than it cost, whatever is still undecided.
    CONSTRAINT orders_refund_within_total CHECK (refunded_minor + refunding_minor <= total_minor),
    CONSTRAINT orders_refunded_in_full CHECK (status <> 'refunded' OR refunded_minor = total_minor),
    CONSTRAINT orders_refund_of_paid CHECK (paid_at IS NOT NULL OR refunded_minor + refunding_minor = 0),
    CONSTRAINT orders_payment_known CHECK ((status IN ('created', 'cancelled')) = (pay_gid IS NULL)),
    CONSTRAINT orders_payment_named CHECK ((pay_gid IS NULL) = (payment_id IS NULL)),
    CONSTRAINT orders_paid_when CHECK ((status IN ('paid', 'shipped', 'delivered', 'refunded')) = (paid_at IS NOT NULL))
);
-- The lists: a customer's, everybody's, everybody's in one status; each newest first.
CREATE INDEX orders_of_user ON orders (user_id, created_at DESC, id DESC);
CREATE INDEX orders_newest ON orders (created_at DESC, id DESC);
CREATE INDEX orders_in_status ON orders (status, created_at DESC, id DESC);

-- What was ordered, as it was then. Never changed.
CREATE TABLE order_line (
    order_id    uuid     NOT NULL REFERENCES orders (id),
    position    smallint NOT NULL CHECK (position BETWEEN 0 AND 99),
    product_id  uuid     NOT NULL,
    sku         text     NOT NULL,
    name        text     NOT NULL,
    unit_minor  bigint   NOT NULL CHECK (unit_minor >= 0),
    quantity    bigint   NOT NULL CHECK (quantity BETWEEN 1 AND 1000),
    total_minor bigint   NOT NULL,
    PRIMARY KEY (order_id, position),
    UNIQUE (order_id, product_id),
    CONSTRAINT order_line_sums CHECK (total_minor = unit_minor * quantity)
);

-- Every move of an order, and every refund of a part of it. Only added to.
CREATE TABLE order_history (
    id          bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    order_id    uuid        NOT NULL REFERENCES orders (id),
    from_status text        NOT NULL,          -- empty in the first line
    to_status   text        NOT NULL,
    actor       text        NOT NULL CHECK (actor <> ''),
    gid         uuid,
    request_id  text        NOT NULL,
    note        text        NOT NULL,
    at          timestamptz NOT NULL
);
CREATE INDEX order_history_of_order ON order_history (order_id, id);

-- +goose Down
DROP TABLE order_history;
DROP TABLE order_line;
DROP TABLE orders;
