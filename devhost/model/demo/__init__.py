"""The offline model's own answers: rules that choose a tool, facts that the user stated, JSON for a schema.

Not here: scripted answers (`../scripts/`).
"""
