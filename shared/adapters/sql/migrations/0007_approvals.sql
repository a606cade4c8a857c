-- Policies at work: what an approval was opened with, who voted, and what was allowed for the rest of a session.

-- Frozen when the approval is opened. The default is what held before, and what code that knows no policy opens.
ALTER TABLE approvals ADD COLUMN policy jsonb NOT NULL DEFAULT '{"roles": ["approver"], "users": [], "quorum": 1}';
ALTER TABLE approvals ADD COLUMN for_session boolean NOT NULL DEFAULT false;
CREATE INDEX approvals_inbox ON approvals (requested_at DESC, id DESC);

-- The newest vote of each person; those before it are in the audit trail.
CREATE TABLE approval_votes (
    approval_id      text NOT NULL REFERENCES approvals ON DELETE CASCADE,
    user_id          text NOT NULL,
    decision         text NOT NULL CHECK (decision IN ('approve', 'reject')),
    -- Of the arguments this vote is about: votes count together only when it is the same.
    arguments_digest text NOT NULL,
    -- Only when they are not those that were asked for.
    arguments        jsonb,
    comment          text,
    for_session      boolean NOT NULL,
    voted_at         timestamptz NOT NULL,
    PRIMARY KEY (approval_id, user_id)
);

-- In the order they were cast, as the wire shows them.
CREATE FUNCTION votes_of_approval(id text) RETURNS jsonb LANGUAGE sql STABLE AS $$
    SELECT coalesce(jsonb_agg(jsonb_build_object('by', v.user_id, 'decision', v.decision, 'at', v.voted_at,
                                                 'comment', v.comment, 'arguments', v.arguments,
                                                 'for_session', v.for_session) ORDER BY v.voted_at, v.user_id), '[]')
    FROM approval_votes v WHERE v.approval_id = $1
$$;

-- Tools that somebody approved for the rest of the session; read with every step, so it stands in the row itself.
ALTER TABLE sessions ADD COLUMN granted_tools text[] NOT NULL DEFAULT '{}';
