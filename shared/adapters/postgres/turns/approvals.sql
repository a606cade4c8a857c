-- name: request_approval
WITH call AS (
    SELECT c.id, c.session_id, c.turn_id, c.name, c.arguments, t.requested_by
    FROM tool_calls c JOIN turns t ON t.id = c.turn_id
    WHERE c.id = %(tool_call_id)s AND c.ended_at IS NULL AND t.ended_at IS NULL AND t.cancel_requested_at IS NULL
      AND NOT stopped_above(t.ancestors)
    FOR UPDATE OF t
), approval AS (
    INSERT INTO approvals (id, tool_call_id, session_id, turn_id, tool, arguments, arguments_digest, status,
                           requested_by, requested_at, expires_at, instance_id, policy, reason, requirements)
    SELECT %(approval_id)s, id, session_id, turn_id, name, arguments, %(digest)s, 'pending', requested_by, %(now)s,
           %(expires_at)s, %(instance_id)s, %(policy)s, %(reason)s, %(requirements)s
    FROM call
    ON CONFLICT (tool_call_id) DO NOTHING
    RETURNING id, turn_id
)
UPDATE turns SET status = 'waiting_approval'
FROM approval WHERE turns.id = approval.turn_id
RETURNING approval.id

-- name: approval_of_tool_call
SELECT a.*, s.event_seq_floor, s.event_seq_ceiling, s.incarnation, counted_votes_of_approval(a.id) AS votes,
       t.plan ->> 'agent_id' AS agent_id, t.plan ->> 'agent_version' AS agent_version,
       t.plan #> ARRAY['mcp', a.tool] AS pinned,
       t.plan #> ARRAY['client_tools', a.tool] AS client_tool, t.plan -> 'asked_through' AS asked_through
FROM approvals a JOIN sessions s ON s.id = a.session_id JOIN turns t ON t.id = a.turn_id WHERE a.tool_call_id = %(tool_call_id)s

-- name: approval
SELECT a.*, s.owner_id, s.event_seq_floor, s.event_seq_ceiling, s.incarnation,
       EXISTS (SELECT 1 FROM session_participants p WHERE p.session_id = s.id AND p.user_id = %(user_id)s) AS participates,
       counted_votes_of_approval(a.id) AS votes, t.plan ->> 'traceparent' AS traceparent,
       t.plan ->> 'correlation_id' AS correlation_id, t.plan ->> 'agent_id' AS agent_id,
       t.plan ->> 'agent_version' AS agent_version, t.plan #> ARRAY['mcp', a.tool] AS pinned,
       t.plan #> ARRAY['client_tools', a.tool] AS client_tool, t.plan -> 'asked_through' AS asked_through
FROM approvals a JOIN sessions s ON s.id = a.session_id JOIN turns t ON t.id = a.turn_id WHERE a.id = %(approval_id)s

-- name: context_of_approval
-- Of the call's turn alone, and cut here, so that long texts do not travel. The message that a turn answers may be of an
-- earlier turn: when it is answered again. What joined the turn before the call is part of its question.
SELECT s.name AS session_name,
       left(q.content || joined.said, %(chars)s) AS question, length(q.content || joined.said) AS question_length,
       CASE WHEN q.from_subagent IS NULL THEN coalesce(q.author, turn_author(q.turn_id, q.created_at)) END AS asked_by, q.created_at AS asked_at,
       ARRAY(SELECT f.value ->> 'name' FROM jsonb_array_elements(
           CASE jsonb_typeof(q.attachments) WHEN 'array' THEN q.attachments ELSE '[]' END) f) AS files,
       left(q.attachment_note, %(chars)s) AS note, length(q.attachment_note) AS note_length,
       left(said.content, %(chars)s) AS said, length(said.content) AS said_length,
       left(said.reasoning, %(chars)s) AS reasoning, length(said.reasoning) AS reasoning_length,
       coalesce(said.sources, '{}') AS sources,
       (SELECT count(*) FROM tool_calls e WHERE e.turn_id = c.turn_id AND e.step < c.step) AS before_count,
       (SELECT coalesce(jsonb_agg(to_jsonb(b) ORDER BY b.step, b.ordinal), '[]') FROM (
           SELECT e.name, e.step, e.ordinal, e.status, t.plan #>> ARRAY['mcp', e.name, 'url'] AS address,
                  left(m.content, %(chars)s) AS said, length(m.content) AS said_length,
                  left(ran.arguments, %(chars)s) AS arguments, length(ran.arguments) AS arguments_length,
                  left(ran.result, %(chars)s) AS result, length(ran.result) AS result_length
           FROM tool_calls e JOIN messages m ON m.id = e.message_id
           CROSS JOIN LATERAL (
               SELECT coalesce(e.decided_arguments, e.arguments)::text AS arguments,
                      CASE jsonb_typeof(e.result) WHEN 'string' THEN e.result #>> '{}' ELSE e.result::text END AS result
           ) ran
           WHERE e.turn_id = c.turn_id AND e.step < c.step
           ORDER BY e.step DESC, e.ordinal DESC LIMIT %(calls)s
       ) b) AS before
FROM approvals a
JOIN tool_calls c ON c.id = a.tool_call_id
JOIN turns t ON t.id = a.turn_id
JOIN sessions s ON s.id = a.session_id
JOIN messages said ON said.id = c.message_id
LEFT JOIN messages q ON q.id = t.message_id AND q.session_id = a.session_id
CROSS JOIN LATERAL (
    SELECT coalesce(string_agg(E'\n\n' || j.content, '' ORDER BY j.step, j.ordinal), '') AS said
    FROM messages j
    WHERE j.turn_id = t.id AND j.role = 'user' AND j.ordinal > 0 AND j.step < c.step
) joined
WHERE a.id = %(approval_id)s

-- name: turn_that_waits_for
-- Of a session: the approval's own turn, or the one that waits for the subagent whose turn that is.
SELECT o.id
FROM approvals a JOIN turns t ON t.id = a.turn_id
JOIN turns o ON o.id = ANY (t.ancestors || t.id) AND o.in_background = t.in_background
WHERE a.id = %(approval_id)s AND o.session_id = %(session_id)s

-- name: lock_turn_of_approval
SELECT t.id FROM turns t JOIN approvals a ON a.turn_id = t.id WHERE a.id = %(approval_id)s FOR UPDATE OF t

-- name: cast_vote
-- A person's newest vote replaces the one before; saying the same again changes nothing, not even its time.
INSERT INTO approval_votes (approval_id, user_id, decision, arguments_digest, arguments, comment, for_session, voted_at,
                            counts_for)
SELECT a.id, %(user_id)s, %(decision)s, %(digest)s, %(arguments)s, %(comment)s, %(for_session)s, %(now)s, %(counts_for)s
FROM approvals a
WHERE a.id = %(approval_id)s AND a.status = 'pending' AND a.expires_at > %(now)s
ON CONFLICT (approval_id, user_id) DO UPDATE
SET decision = excluded.decision, arguments_digest = excluded.arguments_digest, arguments = excluded.arguments,
    comment = excluded.comment, for_session = excluded.for_session, voted_at = excluded.voted_at,
    counts_for = excluded.counts_for
WHERE (approval_votes.decision, approval_votes.arguments_digest, approval_votes.for_session, approval_votes.counts_for)
      IS DISTINCT FROM (excluded.decision, excluded.arguments_digest, excluded.for_session, excluded.counts_for)
RETURNING user_id

-- name: decide_approval
-- By the vote just cast: one reject is enough; approving takes, for each requirement, its quorum of people who approve the
-- same arguments and whose approval counts for it. It holds for the rest of the session only when every one of them said so.
WITH votes AS (
    SELECT v.for_session, coalesce(v.counts_for, '{""}') AS counts_for
    FROM approval_votes v
    WHERE v.approval_id = %(approval_id)s AND v.decision = 'approve' AND v.arguments_digest = %(digest)s
), needed AS (
    SELECT unnest(%(needed)s::text[]) AS requirement, unnest(%(quorums)s::integer[]) AS quorum
), approval AS (
    UPDATE approvals
    SET status = CASE WHEN %(decision)s = 'approve' THEN 'approved' ELSE 'rejected' END,
        decided_by = %(user_id)s, decided_at = %(now)s, comment = %(comment)s,
        decided_arguments = CASE WHEN %(decision)s = 'approve' THEN %(arguments)s::jsonb END,
        arguments_digest = CASE WHEN %(decision)s = 'approve' THEN %(digest)s ELSE arguments_digest END,
        for_session = %(decision)s = 'approve' AND coalesce((SELECT bool_and(votes.for_session) FROM votes), false)
    WHERE id = %(approval_id)s AND status = 'pending' AND expires_at > %(now)s
      AND EXISTS (SELECT 1 FROM approval_votes v WHERE v.approval_id = id AND v.user_id = %(user_id)s)
      AND (%(decision)s = 'reject' OR EXISTS (SELECT FROM needed) AND NOT EXISTS (
          SELECT FROM needed
          WHERE (SELECT count(*) FROM votes WHERE needed.requirement = ANY (votes.counts_for)) < needed.quorum))
    RETURNING id, tool_call_id, turn_id, session_id, tool, status, decided_arguments, approvals.for_session
), call AS (
    UPDATE tool_calls
    SET status = approval.status, decided_arguments = approval.decided_arguments FROM approval
    WHERE tool_calls.id = approval.tool_call_id AND tool_calls.ended_at IS NULL
), turn AS (
    UPDATE turns SET status = CASE
        WHEN EXISTS (SELECT FROM tool_waits w WHERE w.turn_id = turns.id AND w.status = 'pending' AND w.kind <> 'agent')
        THEN 'waiting_input'
        ELSE 'running' END
    FROM approval
    WHERE turns.id = approval.turn_id AND turns.status = 'waiting_approval' AND NOT EXISTS (
        SELECT 1 FROM approvals o WHERE o.turn_id = turns.id AND o.status = 'pending' AND o.id <> %(approval_id)s)
), session AS (
    UPDATE sessions SET granted_tools = granted_tools || %(grant)s::text
    FROM approval
    WHERE approval.for_session AND sessions.id = approval.session_id AND sessions.status <> 'ENDED'
      AND %(grant)s <> ALL (granted_tools)
)
SELECT id FROM approval

-- name: undelivered_approvals
-- Not of a suspended session, whose orchestrations hear nothing now; and in no order, so that those that do not answer
-- do not keep the rest.
SELECT a.id, a.instance_id, a.status
FROM approvals a JOIN sessions s ON s.id = a.session_id JOIN turns t ON t.id = a.turn_id
WHERE a.decided_at IS NOT NULL AND a.delivered_at IS NULL AND a.decided_at < %(before)s AND s.status <> 'SUSPENDED'
  AND (t.hub = %(hub)s OR t.hub IS NULL AND %(is_only)s)
ORDER BY random()
LIMIT %(limit)s

-- name: give_up_delivery
UPDATE approvals SET delivered_at = %(now)s WHERE id = %(approval_id)s

-- name: claim_unsettled_notices
-- Those that were to be sent between the two instants. Claimed, so that a receiver that is down for hours costs one look
-- a minute; in no order, so that those that cannot be sent do not keep the rest.
WITH unsettled AS (
    SELECT id, 'requested' AS kind FROM approvals
    WHERE status = 'pending' AND NOT 'requested' = ANY (notices_settled)
      AND requested_at > %(since)s AND requested_at <= %(before)s AND expires_at > %(now)s
    UNION ALL
    SELECT id, 'escalated' FROM approvals
    WHERE status = 'pending' AND policy ->> 'escalation_role' IS NOT NULL AND NOT 'escalated' = ANY (notices_settled)
      AND requested_at + make_interval(secs => (policy ->> 'escalate_after_seconds')::float) > %(since)s
      AND requested_at + make_interval(secs => (policy ->> 'escalate_after_seconds')::float) <= %(before)s
      AND expires_at > %(now)s
    UNION ALL
    SELECT id, 'decided' FROM approvals
    WHERE decided_at IS NOT NULL AND NOT 'decided' = ANY (notices_settled)
      AND decided_at > %(since)s AND decided_at <= %(before)s
), claimed AS (
    UPDATE approvals SET notices_looked_at = %(now)s
    WHERE id IN (
        SELECT id FROM approvals
        WHERE id IN (SELECT id FROM unsettled) AND coalesce(notices_looked_at, '-infinity') <= %(before)s
          AND EXISTS (SELECT FROM turns t
                      WHERE t.id = turn_id AND (t.hub = %(hub)s OR t.hub IS NULL AND %(is_only)s))
        ORDER BY random() LIMIT %(limit)s FOR UPDATE SKIP LOCKED
    )
    RETURNING id
)
SELECT id, kind FROM unsettled JOIN claimed USING (id)

-- name: settle_notice
UPDATE approvals SET notices_settled = notices_settled || %(kind)s::text
WHERE id = %(approval_id)s AND NOT %(kind)s = ANY (notices_settled)

-- name: count_expiring_approvals
SELECT count(*) AS expiring FROM approvals
WHERE status = 'pending' AND expires_at > %(now)s AND expires_at <= %(before)s
