-- What sessions and users have used, for token budgets. Written when a turn closes.

ALTER TABLE sessions ADD COLUMN used_tokens bigint NOT NULL DEFAULT 0;

UPDATE sessions s SET used_tokens = t.tokens
FROM (SELECT session_id, sum(input_tokens + output_tokens) AS tokens FROM turns WHERE ended_at IS NOT NULL GROUP BY session_id) t
WHERE t.session_id = s.id AND t.tokens > 0;

CREATE TABLE token_usage (
    user_id       text NOT NULL,
    -- UTC; the day on which the turns ended.
    day           date NOT NULL,
    input_tokens  bigint NOT NULL,
    output_tokens bigint NOT NULL,
    PRIMARY KEY (user_id, day)
);
CREATE INDEX token_usage_day ON token_usage (day);
