"""The offline model's own answers: rules that choose a tool, facts that were stated, JSON of a schema.

Not here: answers that a script spells out (`../scripts/`).
"""
