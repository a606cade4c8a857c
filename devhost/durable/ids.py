"""Ids of instances and executions."""

from __future__ import annotations

from uuid import uuid4


def new_id() -> str:
    """32 hex digits, as generated instance and execution ids are."""
    return uuid4().hex
