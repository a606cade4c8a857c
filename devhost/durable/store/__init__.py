"""The durable store: one SQLite file in WAL mode, one writer, group commit; its schema, rows and JSON.

Not here: the decisions what to store (`../replay/`).
"""
