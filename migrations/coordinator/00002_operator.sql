-- +goose Up
-- What a person has done about a transaction, and why (souk/services/coordinator, operator.go). Such a row is heuristic too.
ALTER TABLE decision
    ADD COLUMN resolved_by        text,        -- who forced the decision; NULL where it came of the protocol
    ADD COLUMN resolve_reason     text,
    ADD COLUMN acknowledged_by    text,        -- who has looked at a heuristic outcome
    ADD COLUMN acknowledge_reason text,
    ADD COLUMN acknowledged_at    timestamptz,
    ADD COLUMN waiting_for        text,        -- the participants that recovery did not reach the last time
    ADD CONSTRAINT decision_resolved CHECK ((resolved_by IS NULL) = (resolve_reason IS NULL)),
    ADD CONSTRAINT decision_acknowledged CHECK (num_nulls(acknowledged_by, acknowledge_reason, acknowledged_at) IN (0, 3));
CREATE INDEX decision_heuristic ON decision (decided_at) WHERE heuristic;

-- +goose Down
DROP INDEX decision_heuristic;
ALTER TABLE decision
    DROP COLUMN resolved_by, DROP COLUMN resolve_reason,
    DROP COLUMN acknowledged_by, DROP COLUMN acknowledge_reason, DROP COLUMN acknowledged_at, DROP COLUMN waiting_for;
