-- What a call tells the outside by its choice of an address (shared/sessions/approvals/choices.py); 0 in calls of older code.
ALTER TABLE tool_calls ADD COLUMN choice_bits double precision NOT NULL DEFAULT 0;

-- By tool, the least strict mode of approval; what neither session nor message loosens. A tool that is missing has the
-- floor that the code presumes of it (shared/sessions/approvals/needed.py), as in every version of older code.
ALTER TABLE agents ADD COLUMN approval_floor jsonb NOT NULL DEFAULT '{}';
