"""The durable engine of the dev host: Durable Functions on SQLite, for any Python Durable app."""
