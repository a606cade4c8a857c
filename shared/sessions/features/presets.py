"""The built-in tags and session templates, as data: all users have them, nobody can delete them.

A template sets only the fields that distinguish it; the rest follow the app's defaults. None sets a temperature,
since reasoning models refuse one.
"""

from __future__ import annotations

from shared.sessions.features.models import Tag, Template
from shared.sessions.models import ApprovalMode, Concurrency, SessionConfig

SYSTEM_TAGS: tuple[Tag, ...] = (
    Tag(name="important", system=True, color="#d13438", description="Worth finding again"),
    Tag(name="follow-up", system=True, color="#ca5010", description="Somebody has to come back to it"),
    Tag(name="review", system=True, color="#8764b8", description="Waits for a second pair of eyes"),
    Tag(name="work", system=True, color="#0078d4", description="Belongs to the job"),
    Tag(name="personal", system=True, color="#038387", description="Belongs to its owner alone"),
    Tag(name="archived", system=True, color="#69797e", description="Done with, kept for the record"),
)

SYSTEM_TEMPLATES: tuple[Template, ...] = (
    Template(
        id="general",
        name="General conversation",
        system=True,
        description="The defaults: tools run as their own policies say",
    ),
    Template(
        id="quick-answer",
        name="Quick answer",
        system=True,
        description="One short answer with at most one round of tools",
        config=SessionConfig(max_steps=2, max_output_tokens=1_000, concurrency=Concurrency.INTERRUPT),
    ),
    Template(
        id="research",
        name="Research",
        system=True,
        description="Many steps and a wide view, for questions that need looking up",
        config=SessionConfig(max_steps=24, max_context_tokens=200_000, tool_timeout_seconds=120),
        tags=["work"],
    ),
    Template(
        id="supervised",
        name="Supervised operations",
        system=True,
        description="Every tool call waits for a person, up to three days",
        config=SessionConfig(approval_mode=ApprovalMode.MANUAL, approval_timeout_seconds=3 * 86_400),
        tags=["work", "review"],
    ),
    Template(
        id="batch",
        name="Batch of tasks",
        system=True,
        description="Messages queue up and are worked off one after another; the session ends after a week",
        config=SessionConfig(max_steps=16, concurrency=Concurrency.ENQUEUE, expires_after_seconds=7 * 86_400),
        tags=["work"],
    ),
)
