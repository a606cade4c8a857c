"""The start of a tool call's function, which is written down before it runs.

Invariant: a start of ours is told from one of somebody else who may have run the call, also when the database's answer
to it was lost.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

from shared.errors import Transient
from shared.ids import new_id
from shared.sessions.records.audit import AuditNote
from shared.sessions.records.tool_calls import CallStart, ToolExecution
from shared.sessions.repository import ToolCallRepository, WaitRepository

_TRIES = 10


class CallStarts:
    """Those of one process."""

    def __init__(self, tool_calls: ToolCallRepository, waits: WaitRepository | None, *, retry_s: float) -> None:
        self._tool_calls = tool_calls
        self._waits = waits
        self._retry_s = retry_s
        self._ids: dict[str, str] = {}
        """Ids of starts, by call and round, that the database did not confirm."""

    async def begin(self, call: ToolExecution, note: AuditNote | None) -> CallStart:
        """Mark that the tool is about to run, or to go on with an answer.

        Said again as the same start when the answer of the database was lost. Raises Transient(DATABASE_ERROR) when
        that goes on.
        """
        # Taken out: of two who run this at once, each has a start of its own. It is kept until it is known what became
        # of it: one that was stored, and held when it was said again, is still ours.
        key = f"{call.tool_call_id}.{round_of(call)}"
        start_id = self._ids.pop(key, None) or new_id()
        is_known = is_doubtful = False
        try:
            for left in reversed(range(_TRIES)):
                try:
                    start = await self._begin_once(call, start_id, note)
                    if start is CallStart.BEFORE and is_doubtful:
                        # The try before may have been stored only after this statement began.
                        start = await self._begin_once(call, start_id, note)
                except Transient:
                    if not left:
                        raise
                    is_doubtful = True
                    await asyncio.sleep(self._retry_s)
                else:
                    is_known = start is not CallStart.HELD
                    return start
        finally:
            if not is_known:
                self._ids[key] = start_id
        raise AssertionError("the last try returns or raises")

    async def _begin_once(self, call: ToolExecution, start_id: str, note: AuditNote | None) -> CallStart:
        now = datetime.now(UTC)
        if call.wait is None or self._waits is None:
            return await self._tool_calls.begin_tool_call(call.tool_call_id, start_id, note, now=now)
        return await self._waits.resume(call.tool_call_id, call.wait.wait.id, start_id, note, now=now)


def round_of(call: ToolExecution) -> int:
    """How often a call has waited."""
    return 0 if call.wait is None else call.wait.number
