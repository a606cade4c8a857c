-- name: queue_cards
INSERT INTO approval_cards (approval_id, channel, kind, number, due_at)
SELECT a.id, c, %(kind)s, %(number)s, %(now)s
FROM approvals a, unnest(%(channels)s::text[]) c
WHERE a.id = %(approval_id)s AND a.status = 'pending'
  AND (jsonb_typeof(a.policy -> 'channels') IS DISTINCT FROM 'array' OR a.policy -> 'channels' ? c)
ON CONFLICT DO NOTHING

-- name: claim_cards
UPDATE approval_cards card SET due_at = %(until)s, tries = card.tries + 1
FROM (SELECT approval_id, channel, kind, number FROM approval_cards
      WHERE status = 'pending' AND due_at <= %(now)s
      ORDER BY due_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED) due
WHERE (card.approval_id, card.channel, card.kind, card.number) = (due.approval_id, due.channel, due.kind, due.number)
RETURNING card.approval_id, card.channel, card.kind, card.number, card.tries

-- name: settle_card
UPDATE approval_cards SET status = %(status)s, error = %(error)s, due_at = coalesce(%(again_at)s, due_at)
WHERE approval_id = %(approval_id)s AND channel = %(channel)s AND kind = %(kind)s AND number = %(number)s
  AND status = 'pending' AND tries = %(tries)s
RETURNING approval_id
