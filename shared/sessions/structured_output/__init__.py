"""Structured output: which JSON Schemas are accepted, what validation may cost, and whether an answer is valid.

Not here: how the schema is sent to a model (`adapters/models/`).
"""
