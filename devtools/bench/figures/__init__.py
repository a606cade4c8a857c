"""Medians, ratios, processor time and profiles, as tables and JSON.

Not here: README's tables (`../readme.py`).
"""
