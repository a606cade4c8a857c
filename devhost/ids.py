"""Ids that nobody can guess: of instances, executions and invocations."""

from __future__ import annotations

from uuid import uuid4


def new_id() -> str:
    """32 hex digits, as generated instance ids are."""
    return uuid4().hex


def new_guid() -> str:
    """A GUID with dashes, as ids of executions, of requests to entities and of invocations are."""
    return str(uuid4())
