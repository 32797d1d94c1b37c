-- +goose Up
-- What the branch changes, as its coordinator names it: branches that are carried out together lock their rows in this order.
ALTER TABLE tx_branch ADD COLUMN key text;

-- +goose Down
ALTER TABLE tx_branch DROP COLUMN key;
