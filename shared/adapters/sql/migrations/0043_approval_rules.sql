-- Rules of approval policies: what an approval requires, frozen when it is opened (null: what its policy says), and which of
-- these requirements a person's approval counts for (null: the policy's own, whose name is empty).

ALTER TABLE approvals ADD COLUMN requirements jsonb;
ALTER TABLE approval_votes ADD COLUMN counts_for text[];

-- Beside votes_of_approval, which older code reads: it refuses fields that it does not know.
CREATE FUNCTION counted_votes_of_approval(id text) RETURNS jsonb LANGUAGE sql STABLE AS $$
    SELECT coalesce(jsonb_agg(jsonb_build_object('by', v.user_id, 'decision', v.decision, 'at', v.voted_at,
                                                 'comment', v.comment, 'arguments', v.arguments,
                                                 'for_session', v.for_session, 'counts_for', v.counts_for)
                              ORDER BY v.voted_at, v.user_id), '[]')
    FROM approval_votes v WHERE v.approval_id = $1
$$;
