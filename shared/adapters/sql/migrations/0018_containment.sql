-- The rule of two: what an answer was written from, and what follows for the calls it makes (shared/sessions/approvals/containment.py).

-- Of an answer: names of tools with results that it read, and other sources; null: none, or written by code before this.
ALTER TABLE messages ADD COLUMN sources text[];
ALTER TABLE tool_calls
    ADD COLUMN contained boolean NOT NULL DEFAULT false, -- outward, out of a conversation with both other risks
    ADD COLUMN declined  boolean NOT NULL DEFAULT false; -- said no to before, in the same turn
-- Why it takes a person whatever mode, policy and grants say.
ALTER TABLE approvals ADD COLUMN reason text;
ALTER TABLE agents ADD COLUMN containment text NOT NULL DEFAULT 'rule_of_two';
