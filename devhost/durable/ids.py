"""Ids of instances and executions."""

from __future__ import annotations

from uuid import uuid4


def new_id() -> str:
    """32 hex digits, as generated instance ids are."""
    return uuid4().hex


def new_guid() -> str:
    """A GUID with dashes, as ids of executions and of requests to entities are."""
    return str(uuid4())
