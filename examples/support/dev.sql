-- The shop of ./dev up, in its own database and nowhere else. Runs at every start, so each statement may run again.
CREATE SCHEMA IF NOT EXISTS shop;

CREATE TABLE IF NOT EXISTS shop.orders (
    id       text PRIMARY KEY,
    customer text NOT NULL, -- the user who is signed in
    item     text NOT NULL,
    state    text NOT NULL,
    amount   numeric(10, 2) NOT NULL,
    currency text NOT NULL
);

CREATE TABLE IF NOT EXISTS shop.refunds (
    key      text PRIMARY KEY, -- the call's idempotency key: no call pays twice
    order_id text NOT NULL REFERENCES shop.orders,
    amount   numeric(10, 2) NOT NULL CHECK (amount > 0),
    reason   text NOT NULL,
    paid_at  timestamptz NOT NULL DEFAULT now()
);

-- What the warehouse is asked: its program reads it here, and posts the answer with the token of its row.
CREATE TABLE IF NOT EXISTS shop.questions (
    key          text PRIMARY KEY, -- the call's idempotency key
    order_id     text NOT NULL REFERENCES shop.orders,
    question     text NOT NULL,
    answer_url   text NOT NULL,
    answer_token text NOT NULL,
    asked_at     timestamptz NOT NULL DEFAULT now()
);

-- `dev` is who one is on a laptop.
INSERT INTO shop.orders (id, customer, item, state, amount, currency) VALUES
    ('A-1001', 'dev', 'Espresso machine', 'delivered', 1499.00, 'EUR'),
    ('A-1002', 'dev', 'Coffee grinder', 'on its way', 189.00, 'EUR'),
    ('A-1003', 'somebody else', 'Kettle', 'delivered', 49.00, 'EUR')
ON CONFLICT (id) DO NOTHING;
