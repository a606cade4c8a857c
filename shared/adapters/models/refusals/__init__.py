"""Errors of a model server: parsing and classifying them, and what they teach for the next request.

Not here: when a turn retries (`shared/sessions/turns/retry.py`).
"""
