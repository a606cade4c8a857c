-- Cards that tell people of approvals, one for each channel and notice: an outbox. What was sent stays, so that a repeat of the
-- activity that queues it queues nothing.

CREATE TABLE approval_cards (
    approval_id  text NOT NULL REFERENCES approvals ON DELETE CASCADE,
    channel      text NOT NULL,
    kind         text NOT NULL,
    number       integer NOT NULL, -- which reminder, from 1; 0 for other kinds
    status       text NOT NULL DEFAULT 'pending', -- then 'sent', 'outdated' or 'given_up'
    due_at       timestamptz NOT NULL, -- while it is being sent: when it counts as cut
    tries        integer NOT NULL DEFAULT 0,
    error        text,
    PRIMARY KEY (approval_id, channel, kind, number)
);
CREATE INDEX approval_cards_due ON approval_cards (due_at) WHERE status = 'pending';
