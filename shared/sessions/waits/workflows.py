"""Workflows: begun, watched and ended for the calls that wait for them.

Invariant: a call has one workflow that runs, whatever starts were made; what it answers is stored before anybody is
told. Nothing is told of a call that does not wait any more.
"""

from __future__ import annotations

from datetime import UTC, datetime

import orjson

from shared.sessions.events import SessionEventPublisher
from shared.sessions.models import JsonObject, PostedProgress, WaitStatus
from shared.sessions.records.tool_calls import ToolExecution
from shared.sessions.records.waits import WaitRecord, WorkflowBegun, WorkflowStart
from shared.sessions.repository import ToolCallRepository, WaitRepository, WorkflowRepository
from shared.sessions.tools.kinds.workflows import MAX_PROGRESS_CHARS
from shared.sessions.tools.running.masking import NO_MASK, Mask
from shared.sessions.waits import notes
from shared.sessions.waits.answers import workflow_result
from shared.sessions.waits.service import Answered
from shared.sessions.waits.telling import answered_event, progress_event


def start_of(call: ToolExecution) -> WorkflowStart | None:
    """The start of the workflow that a call waits for. None: it waits for none, or for one that has begun."""
    wait = call.wait
    if wait is None or wait.workflow is None or wait.workflow_id is None or wait.is_begun:
        return None
    return WorkflowStart(
        name=wait.workflow,
        instance_id=wait.workflow_id,
        tool_call_id=call.tool_call_id,
        user_id=call.requested_by,
        roles=tuple(sorted(call.plan.roles)),
        session_id=call.session_id,
        agent_id=call.plan.agent_id,
        agent_version=call.plan.agent_version,
        input=orjson.loads(wait.state or "{}"),
    )


class Workflows:
    """The workflows of calls."""

    def __init__(
        self,
        rows: WorkflowRepository,
        waits: WaitRepository,
        calls: ToolCallRepository,
        publisher: SessionEventPublisher,
        *,
        mask: Mask = NO_MASK,
    ) -> None:
        """mask: of what workflows must not tell."""
        self._mask = mask
        self._rows = rows
        self._waits = waits
        self._calls = calls
        self._publisher = publisher

    async def begin(self, tool_call_id: str, start: str) -> WorkflowBegun:
        """Say whether this start is the one that runs."""
        return await self._rows.begin(tool_call_id, start)

    async def start(self, tool_call_id: str) -> WorkflowStart | None:
        """The start that was cut, as it was. None: it has begun. Raises NotFound."""
        return start_of(await self._calls.tool_execution(tool_call_id))

    async def progress(self, tool_call_id: str, text: str, fraction: float | None) -> list[bytes]:
        """Tell the people of the session; returns what is to be sent."""
        record = await self._waits.of_call(tool_call_id)
        if record is None or record.wait.status is not WaitStatus.PENDING:
            return []
        event = progress_event(
            record, PostedProgress(text=self._mask.text(text)[:MAX_PROGRESS_CHARS], fraction=fraction)
        )
        return await self._publisher.publish(record.target, [event])

    async def end(self, tool_call_id: str, outcome: JsonObject) -> Answered | None:
        """Answer the call, once. None: nobody waits, or its session is gone. Said again for a repeat, since the first
        may have been cut."""
        record = await self._waits.of_call(tool_call_id)
        if record is None:
            return None
        said = workflow_result(record.wait, outcome)
        await self._waits.answer(record, said, [notes.answered(record.wait, said)], now=datetime.now(UTC))
        stands: WaitRecord | None = await self._waits.of_call(tool_call_id)
        if stands is None or stands.wait.status is not WaitStatus.ANSWERED:
            return None
        messages = await self._publisher.publish(stands.target, [answered_event(stands.wait, stands.turn_id)])
        return Answered(stands.wait, stands.instance_id, messages)
