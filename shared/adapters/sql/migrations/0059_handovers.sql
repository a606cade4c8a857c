-- Handovers: the agent of a turn, and of its session, becomes another one.
-- agents.hands_over_to: to whom a version may hand over. messages.agent_id: for an answer, the agent that gave it; null: by older
-- code, whose turns have one agent.
ALTER TABLE agents ADD COLUMN hands_over_to text[] NOT NULL DEFAULT '{}';
ALTER TABLE messages ADD COLUMN agent_id text;
