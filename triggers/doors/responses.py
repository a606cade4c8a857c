"""The OpenAI door: agents as models, turns as responses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import azure.durable_functions as df
from azurefunctions.extensions.http.fastapi import Response

from shared.errors import Conflict, ErrorCode, InvalidInput, NotFound
from shared.rights import Action
from shared.sessions.agents.agent import DEFAULT_AGENT
from shared.sessions.doors.files import MAX_BODY_BYTES
from shared.sessions.doors.responses.door import ResponsesDoor
from shared.sessions.doors.responses.ids import ResponseId
from shared.sessions.doors.responses.items import Head
from shared.sessions.doors.responses.request import ModelList, ModelObject, NewResponse, ResponseObject, refused
from shared.sessions.models import NewMessage, NewSession, Session, Turn
from shared.sessions.records.pages import MAX_LIMIT, Page
from triggers.doors import entering
from triggers.http.endpoints import Call, Operation, Parameter, endpoint, invalid_parameter, ok, raw_json
from triggers.http.parameters import IDEMPOTENCY_KEY
from triggers.sessions.messages import send_now
from triggers.sessions.turns import cancel

bp = df.Blueprint()

WAIT_S = 180.0
"""How long a request that does not stream waits for its turn: below the 230 s after which Azure's front end cuts it."""
_CANCEL_S = 5.0
_MAX_NUMBER = 2**53 - 1

_NOT_FOUND = (ErrorCode.SESSION_NOT_FOUND, ErrorCode.MESSAGE_NOT_FOUND)


def _error_member(problem: Mapping[str, Any]) -> Mapping[str, Any]:
    """The error as this wire's clients look for it."""
    fields = problem.get("errors") or [{}]
    kind = "invalid_request_error" if problem["status"] < 500 else "server_error"
    return {
        "error": {
            "message": "; ".join([problem["detail"], *(f"{e['field']}: {e['message']}" for e in fields if e)]),
            "type": kind,
            "param": fields[0].get("field"),
            "code": problem["code"],
        }
    }


@endpoint(
    bp,
    Operation(
        "POST",
        "/api/openai/v1/responses",
        "create_response",
        "Post a message, or answers to approvals and calls, as OpenAI's clients do",
        "Doors",
        200,
        actions=(Action.POST,),
        body=NewResponse,
        max_body_bytes=MAX_BODY_BYTES,
        returns=ResponseObject,
        also_as=("text/event-stream",),
        parameters=(IDEMPOTENCY_KEY,),
        errors=(
            *_NOT_FOUND,
            ErrorCode.INVALID_STATE,
            ErrorCode.INVALID_MESSAGE,
            ErrorCode.TOOL_NOT_FOUND,
            ErrorCode.CONFLICT,
            ErrorCode.SESSION_EXPIRED,
            ErrorCode.APPROVAL_TIMEOUT,
            ErrorCode.TOKEN_LIMIT,
        ),
        also_in_problems=_error_member,
    ),
    durable=True,
)
async def create_response(call: Call, body: NewResponse) -> Response:
    """`model` is an agent. A response ends when its turn does, or waits: then it is `completed` with
    `mcp_approval_request` items for people and `function_call` items for the client, and goes on in the response to
    their answers; whoever retrieves it once somebody else has decided finds the rest in it. One that only waits for
    the user's answer to a question is `incomplete`, with the reason `input_required`.

    With `stream`, Server-Sent Events. Else the response once it has ended, or as it is after three minutes; with
    `background`, as it is at once.
    """
    if body.stream:
        # Before anything is posted: these clients send a request again that was refused so.
        call.services.streams.admit(call.principal.user_id)
    content = body.message()
    if content is None:
        response, turn = await _decide(call, body)
    else:
        response, turn = await _post(call, body, content)
    head = await _head(call, response, turn, is_background=bool(body.background))
    if body.stream:
        return await entering.stream(call, ResponsesDoor(head), response.session_id, response.turn_id)
    if not body.background:
        await entering.settle(call, turn, WAIT_S)
    return await _as_it_is(call, head)


@endpoint(
    bp,
    Operation(
        "GET",
        "/api/openai/v1/responses/{response_id}",
        "get_response",
        "A response as it is now, or its events from any number on",
        "Doors",
        200,
        actions=(Action.READ,),
        returns=ResponseObject,
        also_as=("text/event-stream",),
        parameters=(
            Parameter("stream", "Server-Sent Events", {"type": "boolean"}),
            Parameter(
                "starting_after",
                "With `stream`: the `sequence_number` of the last event seen",
                {"type": "integer", "minimum": 0, "maximum": _MAX_NUMBER},
            ),
            Parameter("include_obfuscation", "Nothing is obfuscated", {"type": "boolean"}),
        ),
        errors=_NOT_FOUND,
        also_in_problems=_error_member,
    ),
)
async def get_response(call: Call, _: None) -> Response:
    """It works for as long as the session is kept. A stream closes after eight minutes: retrieve it again with
    `starting_after`."""
    response, turn = await _found(call)
    head = await _head(call, response, turn)
    starting_after = call.query_as("starting_after", int)
    if starting_after is not None and not 0 <= starting_after <= _MAX_NUMBER:
        raise invalid_parameter("starting_after", f"must be 0 to {_MAX_NUMBER}")
    if call.query_as("stream", bool):
        door = ResponsesDoor(head, starting_after)
        return await entering.stream(call, door, response.session_id, response.turn_id)
    if starting_after is not None:
        raise invalid_parameter("starting_after", "is for streams")
    return await _as_it_is(call, head)


@endpoint(
    bp,
    Operation(
        "POST",
        "/api/openai/v1/responses/{response_id}/cancel",
        "cancel_response",
        "Stop the turn of a response",
        "Doors",
        200,
        actions=(Action.CANCEL_OWN_TURN, Action.CANCEL_ANY_TURN),
        returns=ResponseObject,
        errors=_NOT_FOUND,
        also_in_problems=_error_member,
    ),
    durable=True,
)
async def cancel_response(call: Call, _: None) -> Response:
    """Idempotent, and for every response, in the background or not. `in_progress` in the answer means that it is still
    stopping."""
    response, _turn = await _found(call)
    turn = await cancel(call, response.session_id, response.turn_id)
    await send_now(call)
    if not turn.status.is_terminal:
        await entering.settle(call, turn, _CANCEL_S)
    return await _as_it_is(call, await _head(call, response, turn))


@endpoint(
    bp,
    Operation(
        "GET",
        "/api/openai/v1/models",
        "list_models",
        "Agents, as models",
        "Doors",
        200,
        returns=ModelList,
        also_in_problems=_error_member,
    ),
)
async def list_models(call: Call, _: None) -> Response:
    """The first 200 by id."""
    agents, _cursor = await call.services.agents.list_for(Page(limit=MAX_LIMIT))
    models = [
        ModelObject(
            id=agent.id,
            object="model",
            created=0 if agent.created_at is None else int(agent.created_at.timestamp()),
            owned_by=agent.created_by or "parley",
        )
        for agent in agents
    ]
    return ok(ModelList(object="list", data=models))


# What they share. ------------------------------------------------------------------------------


async def _post(call: Call, body: NewResponse, content: str) -> tuple[ResponseId, Turn]:
    """Post the user's message into the conversation that goes on, or into a new one."""
    key = call.request.headers.get("idempotency-key")
    files = body.files()
    session_id = await _conversation(call, body, key)
    message = NewMessage(
        content=content,
        attachment_ids=await entering.keep_files(call, session_id, files),
        output_schema=body.output_schema,
        client_tools=body.client_tools,
    )
    turn = (await entering.post(call, session_id, message, key=key)).turn
    return ResponseId(session_id, turn.id), turn


async def _conversation(call: Call, body: NewResponse, key: str | None) -> str:
    """Raises InvalidInput, NotFound, Conflict."""
    new = NewSession(agent_id=await _agent(call, body), config=body.config(), metadata=dict(body.metadata or {}))
    if body.previous_response_id is not None:
        if body.thread is not None:
            raise refused("conversation", "comes instead of previous_response_id, not beside it")
        previous, _ = await _response(call, body.previous_response_id, "previous_response_id")
        await _check_newest(call, previous, key)
        session_id = previous.session_id
    elif body.thread is not None:
        session_id = await entering.open_session(call, body.thread, new)
    else:
        return await entering.new_session(call, new, key=key)
    session = (await call.services.sessions.get(session_id, call.principal)).session
    if body.model is not None and body.model != _agent_of(session):
        raise refused("model", f"this conversation is with {_agent_of(session)!r}")
    body.refuse_other(session.config, session.metadata)
    return session_id


async def _agent(call: Call, body: NewResponse) -> str | None:
    """Raises InvalidInput for an unknown one."""
    agent_id = None if body.model == DEFAULT_AGENT.id else body.model
    try:
        await call.services.agents.check(agent_id)
    except InvalidInput:
        raise refused("model", f"there is no agent {body.model!r}") from None
    return agent_id


async def _check_newest(call: Call, previous: ResponseId, key: str | None) -> None:
    """Raises Conflict where another turn has been asked for since: the client does not know of it, or has asked for it
    itself, and lost the answer. Who gives an Idempotency-Key may ask again."""
    if key is not None:
        return
    newest, _ = await call.services.lifecycle.list_turns(previous.session_id, call.principal, Page(limit=1))
    if newest and newest[0].id != previous.turn_id:
        raise Conflict(
            ErrorCode.CONFLICT,
            "previous_response_id is not the newest of its conversation. Name the conversation to go on all the same.",
        )


async def _decide(call: Call, body: NewResponse) -> tuple[ResponseId, Turn]:
    """Decide approvals of the response before, and post outputs of the client's functions that it called."""
    if body.previous_response_id is None:
        raise refused("previous_response_id", "names the response whose requests or calls are answered")
    if body.thread is not None:
        raise refused("conversation", "comes instead of previous_response_id, not beside it")
    previous, turn = await _response(call, body.previous_response_id, "previous_response_id")
    given = [entering.GivenAnswer(approval_id, decision, field) for field, approval_id, decision in body.answers()]
    for answer in given:
        if await _turn_of(call, previous.session_id, answer.approval_id) != previous.turn_id:
            raise refused(answer.field, "is no approval request of previous_response_id")
    results = [entering.GivenResult(output.call_id, output.text, None, field) for field, output in body.outputs()]
    if await entering.turn_of_results(call, previous.session_id, results) not in {None, previous.turn_id}:
        raise refused(results[0].field, "is no call of previous_response_id")
    decided = await entering.decide_all(call, previous.session_id, given)
    await entering.answer_all(call, results)
    first = decided[0].approval.tool_call_id if decided else results[0].tool_call_id
    return ResponseId(previous.session_id, previous.turn_id, first), turn


async def _turn_of(call: Call, session_id: str, approval_id: str) -> str | None:
    try:
        return (await call.services.approvals.asked_in(session_id, approval_id, call.principal)).turn_id
    except NotFound:
        return None


async def _found(call: Call) -> tuple[ResponseId, Turn]:
    """The response that the path names. Raises NotFound."""
    return await _response(call, str(call.request.path_params.get("response_id", "")), None)


async def _response(call: Call, text: str, field: str | None) -> tuple[ResponseId, Turn]:
    """A response of a session that the caller may read. Raises NotFound. field: where it stands in the body."""
    response = ResponseId.parse(text)
    named = "" if field is None else f"{field}: "
    missing = NotFound(ErrorCode.MESSAGE_NOT_FOUND, f"{named}No such response.")
    if response is None:
        raise missing
    try:
        turn = await call.services.sessions.get_turn(response.session_id, response.turn_id, call.principal)
    except NotFound:
        raise missing from None
    return response, turn


async def _head(call: Call, response: ResponseId, turn: Turn, *, is_background: bool = False) -> Head:
    session = (await call.services.sessions.get(response.session_id, call.principal)).session
    metadata = {name: value for name, value in session.metadata.items() if isinstance(value, str)}
    return Head(response, _agent_of(session), int(turn.created_at.timestamp()), metadata, is_background)


def _agent_of(session: Session) -> str:
    return session.agent_id or DEFAULT_AGENT.id


async def _as_it_is(call: Call, head: Head) -> Response:
    """From what is stored."""
    turn = await call.services.sessions.get_turn(head.id.session_id, head.id.turn_id, call.principal)
    door = ResponsesDoor(head)
    await call.services.snapshots.tell(door, turn)
    return raw_json(door.response())
