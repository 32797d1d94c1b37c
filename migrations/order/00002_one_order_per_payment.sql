-- +goose Up
-- A payment pays one order, whatever a client asks for under one key at the same time. An order that costs nothing is
-- charged nowhere, so the payment service cannot see to it.
CREATE UNIQUE INDEX orders_payment ON orders (payment_id);

-- +goose Down
DROP INDEX orders_payment;
