-- A session that tries a version of an agent: the stored one of this number, or a draft (0) that is only here. Its draft is
-- erased with it.

ALTER TABLE sessions
    ADD COLUMN agent_version integer,
    ADD COLUMN agent_draft jsonb,
    ADD CONSTRAINT sessions_draft CHECK ((coalesce(agent_version, 1) = 0) = (agent_draft IS NOT NULL));
