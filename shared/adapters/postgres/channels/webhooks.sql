-- name: own_webhooks
SELECT * FROM webhooks WHERE owner_id = %(user_id)s ORDER BY id LIMIT %(limit)s

-- name: own_webhook
SELECT * FROM webhooks WHERE id = %(webhook_id)s AND owner_id = %(user_id)s

-- name: insert_webhook
-- The limit may be passed by as many as come at the very same time: it bounds abuse, nothing else hangs on it.
INSERT INTO webhooks (id, owner_id, url, description, events, salt, digest, created_at, updated_at)
SELECT %(id)s, %(user_id)s, %(url)s, %(description)s, %(events)s, %(salt)s, %(digest)s, %(now)s, %(now)s
WHERE (SELECT count(*) FROM webhooks WHERE owner_id = %(user_id)s) < %(limit)s
RETURNING id

-- name: change_webhook
UPDATE webhooks
SET url = coalesce(%(url)s, url), events = coalesce(%(events)s, events),
    description = CASE WHEN %(describes)s THEN %(description)s ELSE description END,
    off_at = CASE WHEN NOT %(switches)s THEN off_at WHEN %(off_reason)s::text IS NOT NULL THEN coalesce(off_at, %(now)s) END,
    off_reason = CASE WHEN NOT %(switches)s THEN off_reason
                      WHEN %(off_reason)s::text IS NOT NULL THEN coalesce(off_reason, %(off_reason)s) END,
    failing_since = CASE WHEN %(switches)s AND %(off_reason)s::text IS NULL THEN NULL ELSE failing_since END,
    updated_at = %(now)s
WHERE id = %(webhook_id)s AND owner_id = %(user_id)s
RETURNING *

-- name: renew_webhook_secret
UPDATE webhooks
SET previous_salt = salt, previous_digest = digest, previous_until = %(both_until)s, salt = %(salt)s, digest = %(digest)s,
    updated_at = %(now)s
WHERE id = %(webhook_id)s AND owner_id = %(user_id)s
RETURNING *

-- name: delete_webhook
DELETE FROM webhooks WHERE id = %(webhook_id)s AND owner_id = %(user_id)s

-- name: deliveries
SELECT d.* FROM webhook_deliveries d JOIN webhooks w ON w.id = d.webhook_id
WHERE d.webhook_id = %(webhook_id)s AND w.owner_id = %(user_id)s
ORDER BY d.number DESC LIMIT %(limit)s

-- name: lock_own_webhook
SELECT off_at IS NULL AS is_on FROM webhooks WHERE id = %(webhook_id)s AND owner_id = %(user_id)s FOR KEY SHARE

-- name: delivery
SELECT * FROM webhook_deliveries WHERE id = %(delivery_id)s AND webhook_id = %(webhook_id)s

-- name: send_delivery_again
-- One that is being sent now is sent again, too; the outcome of that try is then left out.
UPDATE webhook_deliveries SET status = 'pending', due_at = %(now)s, tries = 0, error = NULL
WHERE id = %(delivery_id)s AND webhook_id = %(webhook_id)s
RETURNING *

-- name: claim_deliveries
-- A few of each webhook that has some, whichever has waited longest: the recursion steps from webhook to webhook in the index.
WITH RECURSIVE waiting AS (
    (SELECT webhook_id FROM webhook_deliveries WHERE status = 'pending' ORDER BY webhook_id LIMIT 1)
    UNION ALL
    SELECT (SELECT d.webhook_id FROM webhook_deliveries d
            WHERE d.status = 'pending' AND d.webhook_id > w.webhook_id ORDER BY d.webhook_id LIMIT 1)
    FROM waiting w WHERE w.webhook_id IS NOT NULL
), due AS (
    SELECT d.id, d.due_at
    FROM waiting w CROSS JOIN LATERAL (
        SELECT id, due_at FROM webhook_deliveries
        WHERE webhook_id = w.webhook_id AND status = 'pending' AND due_at <= %(now)s
        ORDER BY due_at LIMIT %(each)s) d
    WHERE w.webhook_id IS NOT NULL
    ORDER BY d.due_at LIMIT %(limit)s
), claimed AS (
    SELECT d.id FROM webhook_deliveries d JOIN due ON due.id = d.id
    WHERE d.status = 'pending' AND d.due_at <= %(now)s
    FOR UPDATE OF d SKIP LOCKED
)
UPDATE webhook_deliveries d SET due_at = %(until)s, tries = d.tries + 1, tried_at = %(now)s
FROM claimed, webhooks w
WHERE d.id = claimed.id AND w.id = d.webhook_id AND w.off_at IS NULL -- it may have been switched off while this was queued
RETURNING d.id, d.webhook_id, d.event, d.data, d.occurred_at, d.tries, w.url, w.salt, w.digest,
          CASE WHEN w.previous_until > %(now)s THEN w.previous_salt END AS previous_salt, w.previous_digest

-- name: mark_webhook_taken
UPDATE webhooks SET failing_since = NULL WHERE id = %(webhook_id)s AND failing_since IS NOT NULL

-- name: mark_webhook_failing
UPDATE webhooks SET failing_since = coalesce(failing_since, %(now)s) WHERE id = %(webhook_id)s RETURNING failing_since

-- name: settle_delivery
UPDATE webhook_deliveries
SET status = %(status)s, due_at = coalesce(%(again_at)s, due_at), answer_code = %(answer_code)s, error = %(error)s,
    took_ms = %(took_ms)s
WHERE id = %(id)s AND status = 'pending' AND tries = %(tries)s

-- name: forget_delivery_of_erased
-- A session that was erased leaves only what was on its way when it ended.
DELETE FROM webhook_deliveries d
WHERE d.id = %(id)s AND d.status <> 'pending' AND d.event = 'session.ended'
  AND NOT EXISTS (SELECT FROM sessions s WHERE s.id = d.session_id)

-- name: switch_webhook_off
UPDATE webhooks SET off_at = %(now)s, off_reason = %(reason)s WHERE id = %(webhook_id)s AND off_at IS NULL

-- name: fail_waiting_deliveries
UPDATE webhook_deliveries SET status = 'failed', error = 'The webhook was switched off.'
WHERE webhook_id = %(webhook_id)s AND status = 'pending'

-- name: forget_deliveries
DELETE FROM webhook_deliveries WHERE id IN (
    SELECT id FROM webhook_deliveries WHERE status <> 'pending' AND occurred_at < %(before)s LIMIT %(limit)s)
