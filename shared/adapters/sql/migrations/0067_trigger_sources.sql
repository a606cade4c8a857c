-- What may fire a trigger beside its owner. Those made before take signed webhooks, as they did.

ALTER TABLE triggers ADD COLUMN sources text[] NOT NULL DEFAULT '{webhook}';
