"""Answers that are JSON of a schema: which schemas are taken, what a check may cost, and how one is asked for."""
