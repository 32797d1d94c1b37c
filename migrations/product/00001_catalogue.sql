-- +goose Up
-- Slugs are in addresses and in links, so a category keeps its slug for life, and the slug is its key.
CREATE TABLE category (
    slug       text        PRIMARY KEY CHECK (slug ~ '^[a-z0-9]+(-[a-z0-9]+)*$' AND length(slug) <= 40),
    name       text        NOT NULL CHECK (length(name) BETWEEN 1 AND 80),
    created_at timestamptz NOT NULL
);

CREATE TABLE product (
    id             uuid        PRIMARY KEY,
    sku            text        NOT NULL UNIQUE CHECK (sku ~ '^[A-Z0-9][A-Z0-9-]*$' AND length(sku) <= 40),
    name           text        NOT NULL CHECK (length(name) BETWEEN 1 AND 120),
    description    text        NOT NULL CHECK (length(description) <= 4000),
    category       text        NOT NULL REFERENCES category,
    price_amount   bigint      NOT NULL CHECK (price_amount BETWEEN 0 AND 1000000000000),
    price_currency text        NOT NULL CHECK (price_currency ~ '^[A-Z]{3}$'),
    version        bigint      NOT NULL DEFAULT 1 CHECK (version >= 1),
    archived       boolean     NOT NULL DEFAULT false,
    created_at     timestamptz NOT NULL,
    updated_at     timestamptz NOT NULL,
    -- A word in the name counts for more than one in the description.
    search         tsvector    NOT NULL GENERATED ALWAYS AS (
        setweight(to_tsvector('english', name), 'A') || setweight(to_tsvector('english', description), 'C')) STORED
);
-- One index per order of the list, each read in either direction; and one per filter that leaves few.
CREATE INDEX product_newest ON product (created_at, id) WHERE NOT archived;
CREATE INDEX product_price ON product (price_currency, price_amount, id) WHERE NOT archived;
CREATE INDEX product_name ON product (lower(name), id) WHERE NOT archived;
CREATE INDEX product_category ON product (category, created_at, id) WHERE NOT archived;
CREATE INDEX product_search ON product USING gin (search);

-- Every version of a product as it was from then on.
CREATE TABLE product_change (
    product_id     uuid        NOT NULL REFERENCES product,
    version        bigint      NOT NULL,
    change         text        NOT NULL CHECK (change IN ('created', 'updated', 'archived')),
    name           text        NOT NULL,
    description    text        NOT NULL,
    category       text        NOT NULL,
    price_amount   bigint      NOT NULL,
    price_currency text        NOT NULL,
    actor          uuid,                       -- null for the seed
    request_id     text        NOT NULL,
    at             timestamptz NOT NULL,
    PRIMARY KEY (product_id, version)
);

-- How many there are of a product, and where. It is apart from product because every sale writes it: a row of four
-- numbers with room on its page is rewritten in place, without touching the indexes of the catalogue.
CREATE TABLE stock (
    product_id uuid   PRIMARY KEY REFERENCES product,
    available  bigint NOT NULL DEFAULT 0 CHECK (available >= 0),
    held       bigint NOT NULL DEFAULT 0 CHECK (held >= 0),
    sold       bigint NOT NULL DEFAULT 0 CHECK (sold >= 0)
) WITH (fillfactor = 50);

-- Every change of stock. For each product the changes add up to its row in stock, and the last "after" equals it: seq is
-- drawn while the row in stock is locked, so it is the order in which things happened.
CREATE TABLE stock_movement (
    seq              bigint      GENERATED ALWAYS AS IDENTITY,
    id               uuid        PRIMARY KEY,
    product_id       uuid        NOT NULL REFERENCES stock,
    kind             text        NOT NULL CHECK (kind IN ('adjustment', 'sale', 'restock')),
    step             text        NOT NULL CHECK (step IN ('', 'prepared', 'committed', 'aborted')),
    available_change bigint      NOT NULL,
    held_change      bigint      NOT NULL,
    sold_change      bigint      NOT NULL,
    available_after  bigint      NOT NULL CHECK (available_after >= 0),
    held_after       bigint      NOT NULL CHECK (held_after >= 0),
    sold_after       bigint      NOT NULL CHECK (sold_after >= 0),
    reason           text        NOT NULL DEFAULT '' CHECK (length(reason) <= 200),
    gid              uuid,
    order_id         uuid,
    actor            uuid,
    request_id       text        NOT NULL,
    at               timestamptz NOT NULL,
    -- Goods come and go by adjustments alone; everything else moves them about.
    CHECK (kind = 'adjustment' OR available_change + held_change + sold_change = 0),
    CHECK ((kind = 'adjustment') = (step = '')),
    CHECK ((kind = 'adjustment') = (gid IS NULL))
);
CREATE INDEX stock_movement_of_product ON stock_movement (product_id, seq);
-- What an order has taken, to refuse that it gives back more.
CREATE INDEX stock_movement_of_order ON stock_movement (order_id, product_id) WHERE order_id IS NOT NULL;

-- +goose Down
DROP TABLE stock_movement;
DROP TABLE stock;
DROP TABLE product_change;
DROP TABLE product;
DROP TABLE category;
