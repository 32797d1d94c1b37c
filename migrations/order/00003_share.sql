-- +goose Up
-- What the owner of an order or a wish list lets another do with it, until when. One that has ended says nothing any more.
CREATE TABLE share (
    kind       text        NOT NULL CHECK (kind IN ('order', 'wishlist')),
    object     uuid        NOT NULL,
    grantee    uuid        NOT NULL,
    may        text        NOT NULL CHECK (may IN ('read', 'manage')),
    granted_by uuid        NOT NULL CHECK (granted_by <> grantee),
    granted_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (kind, object, grantee)
);
CREATE INDEX share_of_grantee ON share (grantee, kind, object); -- what is shared with somebody

-- What somebody would like to have. It reserves nothing and has no prices.
CREATE TABLE wishlist (
    id         uuid        PRIMARY KEY,
    user_id    uuid        NOT NULL,
    name       text        NOT NULL CHECK (char_length(name) BETWEEN 1 AND 100),
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL
);
CREATE INDEX wishlist_of_user ON wishlist (user_id, id);

CREATE TABLE wishlist_item (
    wishlist_id uuid        NOT NULL REFERENCES wishlist (id) ON DELETE CASCADE,
    product_id  uuid        NOT NULL,
    added_by    uuid        NOT NULL,
    added_at    timestamptz NOT NULL,
    PRIMARY KEY (wishlist_id, product_id)
);

-- +goose Down
DROP TABLE wishlist_item;
DROP TABLE wishlist;
DROP TABLE share;
