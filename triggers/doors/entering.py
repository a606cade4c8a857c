"""What every door does with a request: find the session, post, decide, stream. It goes through the code of the main
routes, so a door can do nothing that they cannot."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from typing import Any

from azurefunctions.extensions.http.fastapi import Response
from pydantic import ValidationError

from activities import durable_client
from shared.errors import BudgetExceeded, Conflict, ErrorCode, Gone, InvalidInput, NotFound
from shared.ids import is_valid_id
from shared.sessions.approval import AskedIn
from shared.sessions.approvals.models import NewDecision
from shared.sessions.doors.door import Door
from shared.sessions.doors.files import SentFile
from shared.sessions.doors.reader import Told
from shared.sessions.doors.silent import Silent
from shared.sessions.live.open_streams import Viewer
from shared.sessions.models import (
    ApprovalStatus,
    NewInput,
    NewMessage,
    NewSession,
    NewToolResult,
    Regeneration,
    Turn,
)
from shared.sessions.records.turns import PostedMessage, ReadableTurn
from triggers.approvals.approvals import decide
from triggers.http.endpoints import Call, event_stream
from triggers.sessions.messages import begin, send_now


@dataclass(frozen=True, slots=True)
class GivenAnswer:
    """A client's answer to an approval. field: where it stands in the body."""

    approval_id: str
    decision: NewDecision
    field: str


@dataclass(frozen=True, slots=True)
class GivenResult:
    """What a client's own tool has returned, or why it failed. field: where it stands in the body."""

    tool_call_id: str
    value: Any
    error: str | None
    field: str


async def find_session(call: Call, thread: str) -> str:
    """The caller's session of a thread. Raises NotFound."""
    return await call.services.threads.find(thread, call.principal)


async def open_session(call: Call, thread: str, body: NewSession | None = None) -> str:
    """As `find_session`; makes it if there is none. Raises InvalidInput, Conflict."""
    session_id, call.events = await call.services.threads.open(thread, call.principal, body or NewSession())
    await send_now(call)
    return session_id


async def new_session(call: Call, body: NewSession, *, key: str | None) -> str:
    """A session of the caller; of a repeat with the same key, the one that it made. Raises InvalidInput, Conflict."""
    session, _, call.events = await call.services.sessions.create(body, call.principal, idempotency_key=key)
    await send_now(call)
    return session.id


async def post(call: Call, session_id: str, body: NewMessage, *, key: str | None) -> PostedMessage:
    """Post a message and start its turn, or join it to the turn that runs; of a repeat with the same key, what it did.
    Raises as `SessionService.post_message`."""
    with _tools_of_the_wire():
        posted = await call.services.sessions.post_message(session_id, body, call.principal, idempotency_key=key)
    await begin(call, posted)
    await send_now(call)
    return posted.result


def told_before(posted: PostedMessage) -> Told:
    """What a client has had of the turn of its message: all that came before one that joined it."""
    return Told(joined=posted.message.id) if posted.message.joined else Told()


async def regenerate(call: Call, session_id: str, message_id: str, body: Regeneration, *, key: str | None) -> Turn:
    """Answer a message again. Raises as `BranchService.regenerate`."""
    with _tools_of_the_wire():
        posted = await call.services.branches.regenerate(
            session_id, message_id, body, call.principal, idempotency_key=key
        )
    await begin(call, posted)
    await send_now(call)
    return posted.result.turn


async def decide_all(
    call: Call, session_id: str, answers: Sequence[GivenAnswer], *, turn_id: str | None = None
) -> list[AskedIn]:
    """Decide approvals that one turn of a session waits for, its own and those of its subagents, and return what they
    were before. One that somebody else has decided meanwhile stands, and is no failure: the stream tells what it is.
    turn_id: of this one; None: of any.

    Nothing is decided when one of them is not of this session or of another turn. Raises InvalidInput, NotFound,
    Conflict (their own request), Gone.
    """
    asked = [await asked_of(call, session_id, answer.approval_id, answer.field) for answer in answers]
    turns = {one.turn_id for one in asked}
    if len(turns | ({turn_id} if turn_id is not None else set())) > 1:
        raise _refused(answers[-1].approval_id, answers[-1].field, "belongs to another turn than the others")
    for answer in answers:
        try:
            await decide(call, answer.approval_id, answer.decision)
        except (Conflict, Gone):
            now = await call.services.approvals.asked_in(session_id, answer.approval_id, call.principal)
            if now.approval.status is ApprovalStatus.PENDING:
                raise
        finally:
            await send_now(call)
    return asked


async def keep_files(call: Call, session_id: str, files: Sequence[SentFile]) -> list[str]:
    """Store the files of a message as uploads are, within their limits, and return the ids of all in its order.

    Raises NotFound, Gone, InvalidState, InvalidInput, Transient.
    """
    ids: list[str] = []
    for file in files:
        if file.attachment_id is not None:
            ids.append(file.attachment_id)
            continue
        attachments = call.services.attachments
        with attachments.spool() as spool:
            spool.write(file.data or b"")
            ids.append((await attachments.add_once(session_id, call.principal, spool, file.name)).id)
    return ids


async def turn_of_results(call: Call, session_id: str, results: Sequence[GivenResult]) -> str | None:
    """The turn that calls of client tools belong to; None: there is none. Nothing is answered yet.

    Raises InvalidInput for a call that is not one of the caller's own tools in this session, or of another turn.
    """
    turns: list[str] = []
    for given in results:
        try:
            if not is_valid_id(given.tool_call_id):
                raise NotFound(ErrorCode.TOOL_NOT_FOUND, "No such tool call.")
            record = await call.services.waits.of_client(given.tool_call_id, call.principal, looks=1)
        except NotFound:
            record = None
        if record is None or record.session_id != session_id:
            raise _not_answered(given.field, "is no call of a tool of this client that waits for it")
        turns.append(record.turn_id)
    if len(set(turns)) > 1:
        raise _not_answered(results[-1].field, "belongs to another turn than the others")
    return turns[0] if turns else None


async def answer_all(call: Call, results: Sequence[GivenResult]) -> None:
    """Post the results of client tools, which `turn_of_results` has checked, as their own route does. Raises NotFound,
    Conflict, Gone, InvalidInput."""
    for given in results:
        body = _result(given)
        completed = await call.services.waits.complete(given.tool_call_id, body, call.principal)
        call.events = completed.messages
        await durable_client.raise_answer(call.durable, completed.instance_id, completed.wait.id)
        await send_now(call)


async def answer_input(call: Call, tool_call_id: str, body: NewInput) -> None:
    """Answer what a call asks its user, as the route does. An answer from elsewhere that came first stands, and is no
    failure: the stream tells what became of the call. Raises NotFound, InvalidInput."""
    try:
        answered = await call.services.waits.answer(tool_call_id, body, call.principal)
    except (Conflict, Gone):
        return
    call.events = answered.messages
    await durable_client.raise_answer(call.durable, answered.instance_id, answered.wait.id)
    await send_now(call)


def _result(given: GivenResult) -> NewToolResult:
    try:
        if given.error is not None:
            return NewToolResult(error=given.error)
        if given.value is None:
            return NewToolResult(content="Done.")
        if isinstance(given.value, str):
            return NewToolResult(content=given.value, data=given.value)
        return NewToolResult(data=given.value)
    except ValidationError:
        raise _not_answered(given.field, "holds a whole number beyond 64 bits, or is nested too deeply") from None


def _not_answered(field: str, why: str) -> InvalidInput:
    return InvalidInput(ErrorCode.VALIDATION_ERROR, f"{field}: {why}.", errors=[{"field": field, "message": why}])


@contextmanager
def _tools_of_the_wire() -> Iterator[None]:
    """What is wrong with tools that a client declared is told under the name that they have on every door's wire."""
    try:
        yield
    except InvalidInput as exc:
        if not any(error["field"].startswith("client_tools") for error in exc.errors or ()):
            raise
        errors = [{**error, "field": error["field"].replace("client_tools", "tools", 1)} for error in exc.errors or ()]
        told = "; ".join(f"{error['field']}: {error['message']}" for error in errors)
        raise InvalidInput(exc.code, f"{told}.", errors=errors) from None


async def asked_of(call: Call, session_id: str, approval_id: str, field: str) -> AskedIn:
    """An approval that a turn of a session waits for, its own or one of a subagent. field: where it stands in the body.
    Raises InvalidInput for what is none."""
    found = await find_asked(call, session_id, approval_id)
    if found is None:
        raise _refused(approval_id, field, "is no approval of this session" if is_valid_id(approval_id) else "is no id")
    return found


async def find_asked(call: Call, session_id: str, approval_id: str) -> AskedIn | None:
    """The same; None for what is none."""
    try:
        if is_valid_id(approval_id):
            return await call.services.approvals.asked_in(session_id, approval_id, call.principal)
    except NotFound:
        pass
    return None


def _refused(approval_id: str, field: str, why: str) -> InvalidInput:
    return InvalidInput(
        ErrorCode.VALIDATION_ERROR,
        f"{field}: {approval_id[:64]!r} {why}.",
        errors=[{"field": field, "message": why}],
    )


async def open_turn(call: Call, session_id: str) -> ReadableTurn | None:
    """The turn of a session that runs, waits or is next. Raises NotFound."""
    return await call.services.sessions.open_turn(session_id, call.principal)


async def stream(call: Call, door: Door, session_id: str, turn_id: str, told: Told | None = None) -> Response:
    """A turn as the door's wire. Raises NotFound, BudgetExceeded."""
    found = await call.services.sessions.readable_turn(session_id, turn_id, call.principal)
    viewer = Viewer(session_id, call.principal.user_id, found.feed)
    return event_stream(call.services.doors.stream(door, found.turn, viewer, told))


async def settle(call: Call, turn: Turn, seconds: float) -> None:
    """Wait until a turn has ended or all that is left of it waits for people, or for so long; not at all when the user
    has too many streams open. Raises NotFound."""
    found = await call.services.sessions.readable_turn(turn.session_id, turn.id, call.principal)
    viewer = Viewer(turn.session_id, call.principal.user_id, found.feed)
    try:
        async with (
            asyncio.timeout(seconds),
            aclosing(call.services.doors.stream(Silent(), found.turn, viewer)) as body,
        ):
            async for _ in body:
                pass
    except (TimeoutError, BudgetExceeded):
        pass  # the caller tells how far it is
