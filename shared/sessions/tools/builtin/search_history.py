"""The tool `search_history`: searches earlier messages in the sessions of the turn's user.

Invariant: it searches with the access of the turn's user, whatever its arguments. In a shared session, or one of
another owner, it searches only that session: results from elsewhere would reach people who may not read them. Results
are untrusted input, passed to the model as data.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import AwareDatetime, Field, JsonValue

from shared.errors import ToolRefused
from shared.sessions.tools.base import READS, ToolArguments, ToolContext, ToolOutput, tool
from shared.sessions.tools.services import FoundText, HistoryQuestion

MAX_RESULTS = 20


class SearchHistoryArguments(ToolArguments):
    query: Annotated[str, Field(min_length=1, max_length=500)] = Field(
        description='Words that must all occur; "exact phrase" in quotes; prefix*'
    )
    only_this_session: bool = Field(default=False, description="Search this conversation only")
    role: Literal["user", "assistant", "tool"] | None = Field(default=None, description="Only messages of this role")
    since: AwareDatetime | None = Field(default=None, description="Only at or after this time, with its offset")
    until: AwareDatetime | None = Field(default=None, description="Only before this time, with its offset")
    limit: int = Field(default=8, ge=1, le=MAX_RESULTS, description="Most results to return")


# Also untrusted: messages may repeat text of a page, a file or another person.
@tool(idempotent=True, risks=READS, timeout_s=10)
async def search_history(arguments: SearchHistoryArguments, call: ToolContext) -> ToolOutput:
    """Search the user's earlier conversations for words or phrases; returns the best matching passages."""
    if call.services.history is None:
        raise ToolRefused("This deployment does not search history for tools.")
    answer = await call.services.history.find(
        HistoryQuestion(
            user_id=call.user_id,
            query=arguments.query,
            asked_in=call.session_id,
            only_there=arguments.only_this_session,
            role=arguments.role,
            since=arguments.since,
            until=arguments.until,
            limit=arguments.limit,
            # Otherwise the user's question and this turn's earlier results would be the best matches.
            not_turn_id=call.turn_id,
        )
    )
    lines = [f"{number}. {_line(text)}" for number, text in enumerate(answer.found, 1)] or ["Nothing was found."]
    if answer.only_there and not arguments.only_this_session:
        lines.append("Only this conversation was searched, because other people take part in it.")
    return ToolOutput("\n".join(lines), {"results": [_facts(text) for text in answer.found]})


def _line(found: FoundText) -> str:
    where = f" in {found.session_name!r}" if found.session_name else ""
    return f"[{_minute(found.created_at)}, {found.role}{where}] {found.text}"


def _minute(at: datetime) -> str:
    return at.strftime("%Y-%m-%d %H:%M UTC")


def _facts(found: FoundText) -> JsonValue:
    return {
        "session_id": found.session_id,
        "message_id": found.message_id,
        "role": found.role,
        "created_at": found.created_at.isoformat(),
        "text": found.text,
    }
