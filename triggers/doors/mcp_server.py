"""The MCP server: agents as tools, and the caller's approvals, over streamable HTTP."""

from __future__ import annotations

import logging
from typing import Any

import azure.durable_functions as df
from azurefunctions.extensions.http.fastapi import Response

from shared.errors import AppError, BudgetExceeded, ErrorCode, InvalidInput, NotFound
from shared.ids import is_valid_id
from shared.sessions.agents.agent import DEFAULT_AGENT
from shared.sessions.approvals.models import NewDecision
from shared.sessions.doors.mcp import protocol
from shared.sessions.doors.mcp.tools import (
    FIXED,
    Ask,
    CancelTask,
    DecideApproval,
    GetAnswer,
    ListApprovals,
    WrongArguments,
    agent_of,
    agent_tool,
    answered,
    fixed_tools,
    read_arguments,
    result,
    shown,
)
from shared.sessions.doors.responses.ids import ResponseId
from shared.sessions.models import ApprovalStatus, JsonObject, MessageRole, NewMessage, NewSession, Turn
from shared.sessions.records.pages import ApprovalFilter, MessageFilter, Page
from triggers.approvals.approvals import decide
from triggers.doors import entering
from triggers.http.bodies import body_chunks, json_fault
from triggers.http.endpoints import (
    MAX_BODY_BYTES,
    Call,
    Operation,
    Parameter,
    endpoint,
    is_cross_site,
    raw_json,
)
from triggers.sessions.messages import send_now
from triggers.sessions.turns import cancel

bp = df.Blueprint()

log = logging.getLogger("parley.mcp_server")

_SERVER = {"name": "parley", "title": "Parley", "version": "1"}
_CAPABILITIES: JsonObject = {"tools": {"listChanged": False}}
_INSTRUCTIONS = (
    "Each ask_... tool asks an agent. Where its answer takes longer or waits for a person's approval, it names a task;"
    " get_answer with that task gives the answer. Approvals are decided by people: ask before you decide one."
)
_CANCEL_S = 5.0

_MESSAGE: JsonObject = {
    "type": "object",
    "required": ["jsonrpc", "method"],
    "properties": {
        "jsonrpc": {"const": "2.0"},
        "id": {"type": ["string", "integer"], "description": "Absent in a notification"},
        "method": {"type": "string"},
        "params": {"type": "object", "additionalProperties": True},
    },
}


@endpoint(
    bp,
    Operation(
        "POST",
        "/api/mcp",
        "post_mcp",
        "A message to the MCP server: agents as tools, approvals to list and decide",
        "Doors",
        200,
        form=_MESSAGE,
        form_type="application/json",
        returns=dict[str, Any],
        parameters=tuple(
            Parameter(name, "As the protocol says", {"type": "string"}, place="header")
            for name in ("Mcp-Protocol-Version", "Mcp-Method", "Mcp-Name")
        ),
        errors=(ErrorCode.INVALID_MESSAGE, ErrorCode.MESSAGE_TOO_LONG),
        also={
            202: "A notification",
            400: "A JSON-RPC error: the message is not understood",
            403: "A JSON-RPC error: a browser sent it for another site",
            404: "A JSON-RPC error: there is no such method",
        },
        without_content=(202,),
    ),
    durable=True,
)
async def post_mcp(call: Call, _: None) -> Response:
    """MCP over streamable HTTP, version 2026-07-28 and those of 2025 with `initialize`. Without state: no session, no
    stream of the server's own, one JSON answer."""
    try:
        return await _answer(call)
    except protocol.Refused as refusal:
        return raw_json(refusal.body(), refusal.status)


async def _answer(call: Call) -> Response:
    if is_cross_site(call.request, call.services.settings.public_base_url):
        raise protocol.Refused(protocol.INVALID_REQUEST, "This request was sent by another site.", status=403)
    if call.request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise protocol.Refused(protocol.INVALID_REQUEST, "The Content-Type must be application/json.")
    body = await _body(call)
    message = protocol.read_message(body, call.request.headers.items())
    fault = json_fault(body.decode())
    if fault is not None:
        raise protocol.Refused(protocol.INVALID_REQUEST, f"{fault.field or 'body'} {fault.message}.", id=message.id)
    if message.id is None:
        return Response(status_code=202)
    match message.method:
        case "server/discover":
            about = {
                "supportedVersions": list(protocol.VERSIONS),
                "capabilities": _CAPABILITIES,
                "serverInfo": _SERVER,
                "instructions": _INSTRUCTIONS,
            }
            told = protocol.result_of(message, about, is_cacheable=True)
        case "initialize" if not message.is_modern:
            about = {
                "protocolVersion": protocol.negotiated(message.params),
                "capabilities": _CAPABILITIES,
                "serverInfo": _SERVER,
                "instructions": _INSTRUCTIONS,
            }
            told = protocol.result_of(message, about)
        case "ping":
            told = protocol.result_of(message, {})
        case "tools/list":
            told = protocol.result_of(message, await _list(call, message), is_cacheable=True)
        case "tools/call":
            told = protocol.result_of(message, await _call(call, message))
        case _:
            raise protocol.no_such_method(message)
    return raw_json(told)


async def _body(call: Call) -> bytes:
    data = bytearray()
    async for chunk in body_chunks(call.request):
        data += chunk
        if len(data) > MAX_BODY_BYTES:
            raise InvalidInput(ErrorCode.MESSAGE_TOO_LONG, f"A body may have at most {MAX_BODY_BYTES} bytes.")
    return bytes(data)


async def _list(call: Call, message: protocol.Message) -> JsonObject:
    """Agents by id, and with the first page the other tools. The cursor is an agent's id."""
    after = message.params.get("cursor")
    if after is not None and not isinstance(after, str):
        raise protocol.invalid_params(message, "cursor must be text.")
    page = Page(after=None if after is None else (0, after))
    agents, following = await call.services.agents.list_for(page)
    tools = [*(fixed_tools() if after is None else []), *(agent_tool(agent) for agent in agents)]
    return {"tools": tools} if following is None else {"tools": tools, "nextCursor": agents[-1].id}


async def _call(call: Call, message: protocol.Message) -> JsonObject:
    name, arguments = message.params.get("name"), message.params.get("arguments")
    if not isinstance(name, str) or (agent_of(name) is None and name not in FIXED):
        raise protocol.invalid_params(message, f"There is no tool {str(name)[:100]!r}.")
    try:
        return await _use(call, name, arguments)
    except WrongArguments as exc:
        return result(str(exc), is_error=True)
    except AppError as exc:
        if exc.status >= 500:
            log.warning("tool %s: %s", name[:100], exc, exc_info=exc.__cause__)
        after = (
            f" Try again in {exc.retry_after_s:g} s." if isinstance(exc, BudgetExceeded) and exc.retry_after_s else ""
        )
        return result(f"{exc.code}: {exc.safe_message}{after}", is_error=True)


async def _use(call: Call, name: str, arguments: object) -> JsonObject:
    agent_id = agent_of(name)
    if agent_id is not None:
        return await _ask(call, agent_id, read_arguments(Ask, arguments))
    match name:
        case "get_answer":
            wanted = read_arguments(GetAnswer, arguments)
            return await _told(call, await _turn_of(call, wanted.task), wanted.wait_seconds)
        case "cancel_task":
            turn = await _turn_of(call, read_arguments(CancelTask, arguments).task)
            await cancel(call, turn.session_id, turn.id)
            await send_now(call)
            return await _told(call, turn, _CANCEL_S)
        case "list_approvals":
            return await _approvals(call, read_arguments(ListApprovals, arguments))
        case _:
            return await _decide(call, read_arguments(DecideApproval, arguments))


async def _ask(call: Call, agent_id: str, asked: Ask) -> JsonObject:
    named = None if agent_id == DEFAULT_AGENT.id else agent_id
    try:
        await call.services.agents.check(named)
    except InvalidInput:
        raise NotFound(ErrorCode.SESSION_NOT_FOUND, f"There is no agent {agent_id[:64]!r}.") from None
    key = call.request.headers.get("idempotency-key")
    if asked.conversation is None:
        session_id = await entering.new_session(call, NewSession(agent_id=named), key=key)
    else:
        session_id = await entering.open_session(call, asked.conversation, NewSession(agent_id=named))
        session = (await call.services.sessions.get(session_id, call.principal)).session
        if (session.agent_id or DEFAULT_AGENT.id) != agent_id:
            has = session.agent_id or DEFAULT_AGENT.id
            raise InvalidInput(ErrorCode.VALIDATION_ERROR, f"conversation: this one is with the agent {has!r}.")
    turn = (await entering.post(call, session_id, NewMessage(content=asked.message), key=key)).turn
    return await _told(call, turn, asked.wait_seconds)


async def _turn_of(call: Call, task: str) -> Turn:
    """Raises NotFound."""
    found = ResponseId.parse(task)
    missing = NotFound(ErrorCode.MESSAGE_NOT_FOUND, "No such task.")
    if found is None:
        raise missing
    try:
        return await call.services.sessions.get_turn(found.session_id, found.turn_id, call.principal)
    except NotFound:
        raise missing from None


async def _told(call: Call, turn: Turn, wait_s: float) -> JsonObject:
    """How far a turn is, after so long at most."""
    if wait_s and not turn.status.is_terminal:
        await entering.settle(call, turn, wait_s)
    now = await call.services.sessions.get_turn(turn.session_id, turn.id, call.principal)
    answer = None
    if now.status.is_terminal:
        wanted = MessageFilter(role=MessageRole.ASSISTANT, turn_id=turn.id, descending=True)
        found, _ = await call.services.history.list_messages(turn.session_id, call.principal, wanted, Page(limit=1))
        answer = found[0].content if found else None
    waiting = await call.services.approvals.pending_of(turn.session_id, turn.id, call.principal)
    return answered(now, str(ResponseId(turn.session_id, turn.id)), answer, waiting)


async def _approvals(call: Call, wanted: ListApprovals) -> JsonObject:
    found, _ = await call.services.approvals.inbox(
        call.principal, ApprovalFilter(status=wanted.status), Page(limit=wanted.limit)
    )
    told = [shown(approval) for approval in found]
    lines = [f"{approval.id}: {approval.tool} for {approval.requested_by}, {approval.status}" for approval in found]
    return result("\n".join(lines) or "There is none.", {"approvals": told})


async def _decide(call: Call, wanted: DecideApproval) -> JsonObject:
    if not is_valid_id(wanted.approval_id):
        raise NotFound(ErrorCode.TOOL_NOT_FOUND, "No such approval.")
    body = NewDecision(decision=wanted.decision, comment=wanted.comment)
    approval = await decide(call, wanted.approval_id, body)
    await send_now(call)
    votes = "" if approval.status is not ApprovalStatus.PENDING else ", and waits for more votes"
    return result(f"It is {approval.status}{votes}.", {"approval": shown(approval)})
