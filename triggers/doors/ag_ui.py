"""The AG-UI door: a turn as runs of an agent."""

from __future__ import annotations

import azure.durable_functions as df
from azurefunctions.extensions.http.fastapi import Response

from shared.errors import ErrorCode, InvalidInput, NotFound
from shared.ids import is_valid_id
from shared.rights import Action
from shared.sessions.agents.agent import DEFAULT_AGENT
from shared.sessions.approval import AskedIn
from shared.sessions.approvals.models import NewDecision
from shared.sessions.doors.ag_ui.door import AgUiDoor
from shared.sessions.doors.ag_ui.request import (
    Answered,
    AnsweredQuestion,
    Answers,
    Question,
    RunAgentInput,
    question,
    read,
    refused,
)
from shared.sessions.doors.files import MAX_BODY_BYTES
from shared.sessions.doors.reader import Told
from shared.sessions.models import ApprovalStatus, Decision, NewMessage, NewSession, ToolCallStatus
from triggers.doors import entering
from triggers.http.endpoints import Call, Operation, endpoint

bp = df.Blueprint()


@endpoint(
    bp,
    Operation(
        "POST",
        "/api/v1/ag-ui",
        "run_ag_ui",
        "Run an agent as AG-UI clients do, and stream the run",
        "Doors",
        200,
        actions=(Action.POST,),
        body=RunAgentInput,
        max_body_bytes=MAX_BODY_BYTES,
        media_type="text/event-stream",
        errors=(
            ErrorCode.SESSION_NOT_FOUND,
            ErrorCode.INVALID_STATE,
            ErrorCode.INVALID_MESSAGE,
            ErrorCode.MESSAGE_TOO_LONG,
            ErrorCode.TOOL_NOT_FOUND,
            ErrorCode.INVALID_TOOL_ARGS,
            ErrorCode.CONFLICT,
            ErrorCode.SESSION_EXPIRED,
            ErrorCode.APPROVAL_TIMEOUT,
            ErrorCode.TOKEN_LIMIT,
        ),
    ),
    durable=True,
)
async def run_ag_ui(call: Call, body: RunAgentInput) -> Response:
    """AG-UI 1.0. The first run of a thread makes its session. A run posts the newest message of the user, whose `id` is
    the Idempotency-Key: run again with the same one, the turn is told from its beginning.

    A run ends with the outcome `interrupt` when all that is left of the turn waits for people. The run with `resume`
    decides or answers with the caller's own rights, and tells the rest; what somebody else has decided meanwhile
    stands. Where the turn waits for `tools` of the client, the run ends with their calls open, and the next one brings
    a `tool` message for each.
    """
    asked = read(body)
    if isinstance(asked, Answers):
        return await _resume(call, body, asked)
    return await _ask(call, body, asked)


async def _ask(call: Call, body: RunAgentInput, asked: Question) -> Response:
    agent_id = None if body.agent_id == DEFAULT_AGENT.id else body.agent_id
    try:
        await call.services.agents.check(agent_id)
    except InvalidInput:
        raise refused("forwardedProps.agent_id", f"there is no agent {body.agent_id!r}") from None
    session_id = await entering.open_session(call, body.thread_id, NewSession(agent_id=agent_id))
    if body.agent_id is not None:
        session = (await call.services.sessions.get(session_id, call.principal)).session
        if (session.agent_id or DEFAULT_AGENT.id) != body.agent_id:
            raise refused("forwardedProps.agent_id", f"this thread is with {session.agent_id or DEFAULT_AGENT.id!r}")
    attachment_ids = await entering.keep_files(call, session_id, asked.files)
    message = NewMessage(
        content=asked.text,
        attachment_ids=attachment_ids,
        client_tools=body.client_tools,
        concurrency=body.concurrency,
    )
    posted = await entering.post(call, session_id, message, key=asked.key)
    return await entering.stream(call, AgUiDoor(asked.run), session_id, posted.turn.id, entering.told_before(posted))


async def _resume(call: Call, body: RunAgentInput, asked: Answers) -> Response:
    session_id = await entering.find_session(call, asked.run.thread_id)
    results = await _results(call, session_id, asked)
    if not (results or asked.given or asked.questions):
        return await _ask(call, body, question(body))  # run again: the stream broke off behind a result
    interrupts = [(answer, await _asked(call, session_id, answer)) for answer in asked.given]
    turns = {of.turn_id for _, of in interrupts}
    turns |= {await _turn_of_question(call, session_id, one) for one in asked.questions}
    if results:
        turns |= {await entering.turn_of_results(call, session_id, results) or ""}
    if len(turns) > 1:
        field = [one.field for many in (asked.given, asked.questions, results) for one in many][-1]
        raise refused(field, "belongs to another turn than the others")
    answers = [
        entering.GivenAnswer(answer.approval_id, answer.decision or NewDecision(decision=Decision.REJECT), answer.field)
        for answer, of in sorted(interrupts, key=lambda one: one[0].decision is None)
        if answer.decision is not None or (of.may_decide and of.approval.status is ApprovalStatus.PENDING)
    ]
    if answers:
        await entering.decide_all(call, session_id, answers)
    for reply in asked.questions:
        record = await call.services.waits.asked(reply.tool_call_id, reply.wait_id, call.principal)
        answer = reply.answer([one.id for one in record.wait.questions])
        await entering.answer_input(call, reply.tool_call_id, answer)
    await entering.answer_all(call, results)
    told = Told(
        decided=frozenset(answer.approval_id for answer in asked.given),
        answered=frozenset(one.tool_call_id for many in (asked.questions, results) for one in many),
    )
    return await entering.stream(call, AgUiDoor(asked.run), session_id, turns.pop(), told)


async def _results(call: Call, session_id: str, asked: Answers) -> list[entering.GivenResult]:
    """Of the tool messages at the end those of the client's tools; the others are what runs have told of the server's.

    Raises InvalidInput for a call that is not of this session, and for one of the server's that has not ended.
    """
    ids = [output.call_id for output in asked.outputs]
    known = await call.services.history.tool_calls(session_id, call.principal, ids) if ids else {}
    found: list[entering.GivenResult] = []
    for output in asked.outputs:
        one = known.get(output.call_id)
        if one is None:
            raise refused(output.field, "is no tool call of this thread")
        if one.is_client:
            found.append(entering.GivenResult(one.id, output.content, output.error, output.field))
        elif one.status in {ToolCallStatus.PENDING, ToolCallStatus.APPROVED}:
            raise refused(output.field, "is no call of a tool of this client; results of others cannot be posted")
    return found


async def _turn_of_question(call: Call, session_id: str, given: AnsweredQuestion) -> str:
    """Raises InvalidInput for what is no question of this session to its caller."""
    try:
        if is_valid_id(given.tool_call_id) and is_valid_id(given.wait_id):
            asked = await call.services.waits.asked(given.tool_call_id, given.wait_id, call.principal)
            if asked.session_id == session_id:
                return asked.turn_id
    except NotFound:
        pass
    raise refused(given.field, "is no interrupt of this thread")


async def _asked(call: Call, session_id: str, answer: Answered) -> AskedIn:
    """Raises InvalidInput for what no turn of this session waits for."""
    found = await entering.find_asked(call, session_id, answer.approval_id)
    if found is None:
        raise refused(answer.field, "is no interrupt of this thread")
    return found
