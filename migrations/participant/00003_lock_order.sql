-- +goose Up
-- Which row the branch's action locks first: branches that are carried out together are so in this order.
ALTER TABLE tx_branch ADD COLUMN lock_order text;

-- +goose Down
ALTER TABLE tx_branch DROP COLUMN lock_order;
