-- +goose Up
-- A refund above the limit is requested first, and is planned when somebody else than who asked for it has approved it.
ALTER TABLE refund
    ADD COLUMN decided_by uuid,        -- who approved or rejected it; null: nobody had to, or nobody has yet
    ADD COLUMN decided_at timestamptz,
    DROP CONSTRAINT refund_status_check,
    DROP CONSTRAINT refund_check,
    ADD CONSTRAINT refund_status_check CHECK (status IN ('requested', 'rejected', 'planned', 'pending', 'succeeded', 'failed')),
    ADD CONSTRAINT refund_settled_at CHECK ((settled_at IS NOT NULL) = (status IN ('succeeded', 'failed', 'rejected'))),
    ADD CONSTRAINT refund_decided CHECK ((decided_by IS NULL) = (decided_at IS NULL)),
    ADD CONSTRAINT refund_rejected_by CHECK (status <> 'rejected' OR decided_by IS NOT NULL),
    -- Whatever the policies say: nobody decides on what they asked for themselves.
    ADD CONSTRAINT refund_two_people CHECK (decided_by IS NULL OR actor IS NOT NULL AND actor <> decided_by);
CREATE INDEX refund_requested ON refund (created_at, id) WHERE status = 'requested';

-- +goose Down
DROP INDEX refund_requested;
DELETE FROM refund WHERE status IN ('requested', 'rejected');
ALTER TABLE refund
    DROP CONSTRAINT refund_two_people,
    DROP CONSTRAINT refund_rejected_by,
    DROP CONSTRAINT refund_decided,
    DROP CONSTRAINT refund_settled_at,
    DROP CONSTRAINT refund_status_check,
    DROP COLUMN decided_by,
    DROP COLUMN decided_at,
    ADD CONSTRAINT refund_status_check CHECK (status IN ('planned', 'pending', 'succeeded', 'failed')),
    ADD CONSTRAINT refund_check CHECK ((settled_at IS NOT NULL) = (status IN ('succeeded', 'failed')));
