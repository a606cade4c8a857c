"""Answers in a JSON Schema: is the schema one we take, how much may checking it cost, does an answer fit it.

Not here: how the schema is sent to a model (`adapters/models/`).
"""
