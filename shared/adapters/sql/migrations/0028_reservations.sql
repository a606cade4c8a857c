-- What the model steps of a user's turns that run now may still use of the day: by turn, {"tokens": ..., "cost_usd": ...,
-- "until": seconds since 1970}. In the row that is locked to count, so that steps that begin at once are not promised the same
-- tokens. What a killed process has reserved ends by itself at `until`.

ALTER TABLE token_usage ADD COLUMN reserved jsonb NOT NULL DEFAULT '{}';

-- Of all reservations that have not ended, those of other turns.
CREATE FUNCTION others_reserved(reserved jsonb, turn_id text, at float8) RETURNS jsonb
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT coalesce(jsonb_object_agg(key, value), '{}') FROM jsonb_each(reserved)
    WHERE key <> turn_id AND (value ->> 'until')::float8 > at
$$;

-- The reservations with that of one turn made anew: nothing, where others have reserved all that is left, or where less than
-- `least` is free because of others. It gets `most`, else an eighth of what is free, and not less than the usual step needs.
-- left: of the day, before reservations; null: no limit. at, until: seconds since 1970.
CREATE FUNCTION reserve(
    reserved jsonb, turn_id text, at float8, until float8, left_tokens numeric, left_cost_usd numeric,
    least_tokens numeric, most_tokens numeric, least_cost_usd numeric, most_cost_usd numeric
) RETURNS jsonb
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE
        WHEN free.tokens < 1 OR free.cost_usd <= 0
          OR others.all <> '{}' AND (free.tokens < least_tokens OR free.cost_usd < least_cost_usd) THEN others.all
        ELSE others.all || jsonb_build_object(turn_id, jsonb_build_object(
            'tokens', least(free.tokens, coalesce(most_tokens, greatest(ceil(free.tokens / 8), 32768))),
            'cost_usd', least(free.cost_usd, coalesce(most_cost_usd, greatest(free.cost_usd / 8, 0.5))),
            'until', until))
        END
    FROM (SELECT others_reserved(reserved, turn_id, at) AS all) others,
    LATERAL (
        SELECT left_tokens - coalesce(sum((value ->> 'tokens')::numeric), 0) AS tokens,
               left_cost_usd - coalesce(sum((value ->> 'cost_usd')::numeric), 0) AS cost_usd
        FROM jsonb_each(others.all)
    ) free
$$;
