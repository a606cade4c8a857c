-- name: note_hub
INSERT INTO task_hubs (id, name, address, seen_at) VALUES (%(hub)s, %(name)s, %(address)s, %(now)s)
ON CONFLICT (id) DO UPDATE SET name = excluded.name, address = excluded.address, seen_at = excluded.seen_at
RETURNING NOT EXISTS (SELECT FROM task_hubs o WHERE o.id <> %(hub)s) AS is_only

-- name: hubs
-- A turn that names no hub is told of once the sweeps have had the time to find it.
WITH waiting AS (
    SELECT hub, count(*) AS turns FROM turns
    WHERE ended_at IS NULL AND dispatched_at IS NOT NULL
      AND (hub IS NOT NULL OR greatest(created_at, started_at) < %(known_since)s)
    GROUP BY hub
), erased AS (
    SELECT home, count(*) AS sessions
    FROM session_erasures e,
         LATERAL (SELECT DISTINCT coalesce(e.homes ->> i, e.hub) AS home FROM unnest(e.instances) i) homes
    WHERE e.finished_at IS NULL
    GROUP BY home
)
SELECT coalesce(h.id, w.hub, 'unknown') AS id, coalesce(h.name, '') AS name, coalesce(h.address, '') AS address, h.seen_at,
       coalesce(h.seen_at > %(served_since)s, false) AS is_served, coalesce(w.turns, 0) AS open_turns,
       coalesce(e.sessions, 0) AS open_erasures
FROM task_hubs h FULL JOIN waiting w ON w.hub = h.id LEFT JOIN erased e ON e.home = h.id
ORDER BY h.seen_at DESC NULLS LAST, id

-- name: adopt_turns
-- The sweep looks at them at once, finds no instances, and starts them again from what is stored.
UPDATE turns SET hub = %(by)s, dispatched_at = 'epoch'
WHERE ended_at IS NULL AND dispatched_at IS NOT NULL AND hub IS NOT DISTINCT FROM nullif(%(hub)s, 'unknown')

-- name: give_up_hub
DELETE FROM task_hubs WHERE id = %(hub)s
