"""The AI SDK's door: what `useChat` posts, and the stream that it resumes."""

from __future__ import annotations

import azure.durable_functions as df
from azurefunctions.extensions.http.fastapi import Response

from shared.errors import ErrorCode, NotFound
from shared.ids import is_valid_id
from shared.rights import Action
from shared.sessions.doors.ai_sdk.history import ui_messages, whole_turns
from shared.sessions.doors.ai_sdk.request import (
    Again,
    Answers,
    ChatHistory,
    ChatRequest,
    Question,
    check_calls,
    has_stopped,
    posted_calls,
    read,
    refused,
)
from shared.sessions.doors.ai_sdk.wire import HEADER, NEWEST, OLDEST, UiMessageStream, of_answer_id
from shared.sessions.doors.files import MAX_BODY_BYTES
from shared.sessions.doors.reader import Told
from shared.sessions.doors.stored import CallBelow
from shared.sessions.doors.threads import is_thread
from shared.sessions.models import (
    Concurrency,
    Message,
    MessageRole,
    NewMessage,
    NewSession,
    Regeneration,
    ToolCall,
    TurnStatus,
)
from shared.sessions.records.pages import MAX_LIMIT, ApprovalFilter, MessageFilter, Page
from shared.sessions.records.turns import PostedMessage
from triggers.doors import entering
from triggers.http.endpoints import Call, InvalidPath, Operation, Parameter, endpoint, invalid_parameter, no_content, ok
from triggers.live.replay import LAST_EVENT_ID, last_event_id

bp = df.Blueprint()

_VERSION = Parameter(
    "version",
    f"Major version of the page's `ai` package, {OLDEST} by default. From 7 on, `reset-step` takes text back",
    {"type": "integer", "minimum": OLDEST, "maximum": NEWEST},
)


@endpoint(
    bp,
    Operation(
        "POST",
        "/api/v1/ai-sdk/chat",
        "post_ai_sdk_chat",
        "Send what `useChat` of the AI SDK sends, and stream the answer",
        "Doors",
        200,
        actions=(Action.POST,),
        body=ChatRequest,
        max_body_bytes=MAX_BODY_BYTES,
        media_type="text/event-stream",
        headers=(HEADER[0],),
        parameters=(_VERSION,),
        errors=(
            ErrorCode.SESSION_NOT_FOUND,
            ErrorCode.MESSAGE_NOT_FOUND,
            ErrorCode.INVALID_STATE,
            ErrorCode.INVALID_MESSAGE,
            ErrorCode.MESSAGE_TOO_LONG,
            ErrorCode.TOOL_NOT_FOUND,
            ErrorCode.CONFLICT,
            ErrorCode.SESSION_EXPIRED,
            ErrorCode.APPROVAL_TIMEOUT,
            ErrorCode.TOKEN_LIMIT,
        ),
    ),
    durable=True,
)
async def post_ai_sdk_chat(call: Call, body: ChatRequest) -> Response:
    """The UI message stream, version 1. `id` is a session's id, or any id of the caller's own: the first message of one
    makes its session.

    Only the newest message of the user counts, its `id` being the Idempotency-Key; or the answers to approvals, which
    are decided with the caller's rights, and the outputs of the page's own `tools`. The turn goes on when the request
    is aborted. The stream ends when the turn waits for people or for the page.
    """
    version = _version(call)
    asked = read(body)
    known: dict[str, ToolCall] = {}
    if posted := posted_calls(body):
        known = await _known_calls(call, body.id, list(posted))
        check_calls(posted, known)
    if isinstance(asked, Question):
        session_id = await entering.open_session(call, body.id, NewSession(agent_id=body.agent_id))
    else:
        session_id = await entering.find_session(call, body.id)
    match asked:
        case Answers():
            return await _answer(call, session_id, asked, known, version)
        case Question():
            done = await _post(call, session_id, body, asked)
            joined = None if done.message.joined_after is None else done.message.id
            return await _stream(
                call, session_id, done.turn.id, version, told=entering.told_before(done), joined=joined
            )
        case Again():
            turn_id = await _answer_again(call, session_id, body, asked)
    return await _stream(call, session_id, turn_id, version)


@endpoint(
    bp,
    Operation(
        "GET",
        "/api/v1/ai-sdk/chat/{chat_id}/stream",
        "resume_ai_sdk_chat",
        "Resume the stream of the turn that runs, for `useChat` of the AI SDK",
        "Doors",
        200,
        actions=(Action.READ,),
        media_type="text/event-stream",
        headers=(HEADER[0],),
        parameters=(
            _VERSION,
            LAST_EVENT_ID,
            Parameter(
                "after", "As Last-Event-ID; by default from the turn's beginning", {"type": "integer", "minimum": 0}
            ),
        ),
        errors=(ErrorCode.SESSION_NOT_FOUND,),
        also={204: "No turn runs"},
    ),
)
async def resume_ai_sdk_chat(call: Call, _: None) -> Response:
    """The turn that runs, waits for approvals or is next, from its beginning. Ends as the stream of a message does."""
    version, after = _version(call), last_event_id(call)
    try:
        session_id = await _chat(call)
        found = await entering.open_turn(call, session_id)
    except NotFound:
        found = None  # a chat that has not begun
    if found is None:
        return _marked(no_content())
    return await _stream(call, session_id, found.turn.id, version, told=Told(after=after))


@endpoint(
    bp,
    Operation(
        "GET",
        "/api/v1/ai-sdk/chat/{chat_id}/messages",
        "list_ai_sdk_messages",
        "The history of a chat, for `useChat` of the AI SDK",
        "Doors",
        200,
        actions=(Action.READ,),
        returns=ChatHistory,
        errors=(ErrorCode.SESSION_NOT_FOUND,),
    ),
)
async def list_ai_sdk_messages(call: Call, _: None) -> Response:
    """The newest turns of the active branch, of at most 200 stored messages; of the turn that runs or waits only its
    question, as the stream tells the rest. Of a chat that has not begun: none."""
    history = call.services.history
    try:
        session_id = await _chat(call)
        # First the turn: one that ends meanwhile is then left out, and not told in part.
        found = await entering.open_turn(call, session_id)
    except NotFound:
        return ok(ChatHistory(messages=[]))
    newest = Page(limit=MAX_LIMIT)
    stored, older = await history.list_messages(session_id, call.principal, MessageFilter(descending=True), newest)
    asked, _cursor = await call.services.approvals.of_session(session_id, call.principal, ApprovalFilter(), newest)
    shown = whole_turns(stored, has_more=older is not None)
    turns = {message.turn_id for message in shown if message.turn_id is not None and message.tool_calls}
    below = await call.services.approvals.below(session_id, sorted(turns), call.principal) if turns else []
    messages = ui_messages(
        shown,
        {approval.tool_call_id: approval for approval in asked},
        [CallBelow.of(one) for one in below],
        open_turn_id=None if found is None else found.turn.id,
    )
    return ok(ChatHistory(messages=messages))


async def _chat(call: Call) -> str:
    thread = str(call.request.path_params.get("chat_id", ""))
    if not is_thread(thread):
        raise InvalidPath(ErrorCode.SESSION_NOT_FOUND)
    return await entering.find_session(call, thread)


def _version(call: Call) -> int:
    version = call.query_as("version", int)
    if version is not None and not OLDEST <= version <= NEWEST:
        raise invalid_parameter("version", f"must be {OLDEST} to {NEWEST}")
    return version or OLDEST


async def _known_calls(call: Call, chat_id: str, ids: list[str]) -> dict[str, ToolCall]:
    try:
        session_id = await entering.find_session(call, chat_id)
    except NotFound:
        return {}  # a chat that has not begun
    return await call.services.history.tool_calls(session_id, call.principal, ids)


async def _post(call: Call, session_id: str, body: ChatRequest, asked: Question) -> PostedMessage:
    message = NewMessage(
        content=asked.text,
        attachment_ids=await entering.keep_files(call, session_id, asked.files),
        approval_mode=body.approval_mode,
        concurrency=body.concurrency or await _stopped(call, session_id, body),
        output_schema=body.output_schema,
        client_tools=body.client_tools,
    )
    return await entering.post(call, session_id, message, key=asked.key)


async def _answer_again(call: Call, session_id: str, body: ChatRequest, asked: Again) -> str:
    regeneration = Regeneration(
        approval_mode=body.approval_mode,
        concurrency=body.concurrency or await _stopped(call, session_id, body),
        output_schema=body.output_schema,
        client_tools=body.client_tools,
    )
    message_id = await _question_of(call, session_id, body, asked)
    return (await entering.regenerate(call, session_id, message_id, regeneration, key=None)).id


async def _stopped(call: Call, session_id: str, body: ChatRequest) -> Concurrency | None:
    """`interrupt` when the page has stopped the turn that runs; None: the session's own choice."""
    found = await entering.open_turn(call, session_id)
    if found is None or found.turn.status is TurnStatus.WAITING_APPROVAL:
        return None
    question = await call.services.history.get_message(session_id, found.turn.message_id, call.principal)
    return Concurrency.INTERRUPT if has_stopped(body, found.turn.id, question.content) else None


async def _question_of(call: Call, session_id: str, body: ChatRequest, asked: Again) -> str:
    """The stored message that is to be answered again: of the answer that is named, else the newest with that text."""
    turn_id, joined = of_answer_id(asked.turn_id or "")
    if is_valid_id(turn_id):
        if joined is not None and is_valid_id(joined):
            return joined
        return (await call.services.sessions.get_turn(session_id, turn_id, call.principal)).message_id
    wanted = MessageFilter(role=MessageRole.USER, descending=True)
    found, _ = await call.services.history.list_messages(session_id, call.principal, wanted, Page(limit=MAX_LIMIT))
    same: list[Message] = [message for message in found if message.content == asked.text]
    if not same:
        raise refused(f"messages.{len(body.messages) - 1}", "is no message of this session")
    return same[0].id


async def _answer(call: Call, session_id: str, asked: Answers, known: dict[str, ToolCall], version: int) -> Response:
    """Decide approvals and post results of the page's tools, all of one turn, and go on with it."""
    results = [
        entering.GivenResult(given.call_id, given.value, given.error, given.field)
        for given in asked.outputs
        if given.call_id in known and known[given.call_id].is_client
    ]
    answers = [entering.GivenAnswer(given.approval_id, given.decision, given.field) for given in asked.given]
    if not (results or answers):
        raise refused(asked.outputs[0].field, "answers no call of a tool of the page, and no approval is answered")
    turn_id = await entering.turn_of_results(call, session_id, results)
    decided = await entering.decide_all(call, session_id, answers, turn_id=turn_id)
    await entering.answer_all(call, results)
    told = Told(
        after=asked.seen,
        decided=frozenset(one.approval.id for one in decided),
        answered=frozenset(given.tool_call_id for given in results),
    )
    turn_id = turn_id or decided[0].turn_id
    return await _stream(call, session_id, turn_id, version, told=told, message_id=asked.message_id)


async def _stream(
    call: Call,
    session_id: str,
    turn_id: str,
    version: int,
    *,
    told: Told | None = None,
    message_id: str | None = None,
    joined: str | None = None,
) -> Response:
    door = UiMessageStream(session_id, turn_id, message_id=message_id, joined=joined, version=version)
    return _marked(await entering.stream(call, door, session_id, turn_id, told))


def _marked(response: Response) -> Response:
    name, value = HEADER
    response.headers[name] = value
    return response
