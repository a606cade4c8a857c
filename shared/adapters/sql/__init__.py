"""The schema: numbered migrations, the command that applies them, the command for a restored database.

Not here: queries, which stand beside the stores (`../postgres/`).
"""
