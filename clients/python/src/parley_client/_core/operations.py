"""The routes: each function makes the request of one, and says how its answer is read.

The names are the document's (`operationId`). Nothing is sent here.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final, TypeVar, Union
from uuid import uuid4

from ..events import EventPage
from ..models import (
    Approval,
    ApprovalContext,
    ApprovalMode,
    ApprovalScope,
    ApprovalStatus,
    Attachment,
    Concurrency,
    ConfigFields,
    Decision,
    ExportFormat,
    File,
    ListedSession,
    Message,
    MessageRole,
    Page,
    PostedTurn,
    Session,
    SessionStatus,
    Turn,
    Value,
)
from .http import Operation, Reply, Request, Upload, file_of, json_body, path_of, query_of

M = TypeVar("M", bound=Value)


class Unset(enum.Enum):
    """An argument that was left out, where None says something."""

    UNSET = "unset"


UNSET: Final = Unset.UNSET


# Sessions. -----------------------------------------------------------------------------------


def create_session(
    *,
    name: str | None,
    agent_id: str | None,
    template: str | None,
    config: ConfigFields | None,
    tags: Sequence[str] | None,
    metadata: Mapping[str, Any] | None,
    id: str | None,
    idempotency_key: str | None,
) -> Operation[Session]:
    body = _given(name=name, agent_id=agent_id, template=template, config=config, tags=tags, metadata=metadata, id=id)
    return Operation(_post("/sessions", body, idempotency_key), _session)


def list_sessions(
    *,
    status: SessionStatus | None,
    tag: str | None,
    agent_id: str | None,
    q: str | None,
    parent_session_id: str | None,
    sort: str | None,
    limit: int | None,
    cursor: str | None,
) -> Operation[Page[ListedSession]]:
    query = query_of(
        status=status,
        tag=tag,
        agent_id=agent_id,
        q=q,
        parent_session_id=parent_session_id,
        sort=sort,
        limit=limit,
        cursor=cursor,
    )
    return Operation(_get("/sessions", query), _page(ListedSession))


def get_session(session_id: str) -> Operation[Session]:
    return Operation(_get(path_of("sessions", session_id)), _session)


def update_session(
    session_id: str,
    *,
    name: str | Unset | None,
    agent_id: str | Unset | None,
    config: ConfigFields | Unset,
    tags: Sequence[str] | Unset,
    metadata: Mapping[str, Any] | Unset,
    if_match: str | None,
) -> Operation[Session]:
    given = {"name": name, "agent_id": agent_id, "config": config, "tags": tags, "metadata": metadata}
    body = {field: value for field, value in given.items() if value is not UNSET}
    return Operation(_conditional("PATCH", path_of("sessions", session_id), if_match, body), _session)


def delete_session(session_id: str, *, if_match: str | None) -> Operation[None]:
    return Operation(_conditional("DELETE", path_of("sessions", session_id), if_match), _nothing)


def change_session(session_id: str, verb: str) -> Operation[Session]:
    """verb: `activate`, `suspend`, `resume` or `end`; a repeat would be INVALID_STATE."""
    return Operation(Request("POST", path_of("sessions", session_id, verb), is_repeatable=False), _session)


# Messages and turns. ---------------------------------------------------------------------------


def post_message(
    session_id: str,
    content: str,
    *,
    attachment_ids: Sequence[str],
    approval_mode: ApprovalMode | None,
    concurrency: Concurrency | None,
    output_schema: Mapping[str, Any] | None,
    idempotency_key: str | None,
) -> Operation[PostedTurn]:
    body = _given(
        content=content,
        attachment_ids=list(attachment_ids) or None,
        approval_mode=approval_mode,
        concurrency=concurrency,
        output_schema=output_schema,
    )
    return Operation(_post(path_of("sessions", session_id, "messages"), body, idempotency_key), _value(PostedTurn))


def regenerate_message(
    session_id: str,
    message_id: str,
    *,
    approval_mode: ApprovalMode | None,
    concurrency: Concurrency | None,
    idempotency_key: str | None,
) -> Operation[PostedTurn]:
    path = path_of("sessions", session_id, "messages", message_id, "regenerate")
    body = _given(approval_mode=approval_mode, concurrency=concurrency)
    return Operation(_post(path, body, idempotency_key), _value(PostedTurn))


def edit_message(
    session_id: str,
    message_id: str,
    content: str,
    *,
    attachment_ids: Sequence[str],
    approval_mode: ApprovalMode | None,
    concurrency: Concurrency | None,
    idempotency_key: str | None,
) -> Operation[PostedTurn]:
    path = path_of("sessions", session_id, "messages", message_id, "edit")
    body = _given(
        content=content,
        attachment_ids=list(attachment_ids) or None,
        approval_mode=approval_mode,
        concurrency=concurrency,
    )
    return Operation(_post(path, body, idempotency_key), _value(PostedTurn))


def list_messages(
    session_id: str,
    *,
    role: MessageRole | None,
    since: datetime | None,
    until: datetime | None,
    q: str | None,
    order: str | None,
    limit: int | None,
    cursor: str | None,
) -> Operation[Page[Message]]:
    query = query_of(role=role, from_=since, to=until, q=q, order=order, limit=limit, cursor=cursor)
    return Operation(_get(path_of("sessions", session_id, "messages"), query), _page(Message))


def get_message(session_id: str, message_id: str) -> Operation[Message]:
    return Operation(_get(path_of("sessions", session_id, "messages", message_id)), _value(Message))


def list_turns(session_id: str, *, limit: int | None, cursor: str | None) -> Operation[Page[Turn]]:
    return Operation(_get(path_of("sessions", session_id, "turns"), query_of(limit=limit, cursor=cursor)), _page(Turn))


def get_turn(session_id: str, turn_id: str) -> Operation[Turn]:
    return Operation(_get(path_of("sessions", session_id, "turns", turn_id)), _value(Turn))


def cancel_turn(session_id: str, turn_id: str) -> Operation[Turn]:
    path = path_of("sessions", session_id, "turns", turn_id, "cancel")
    return Operation(Request("POST", path, is_repeatable=True), _value(Turn))


def stream_turn(session_id: str, turn_id: str) -> Request:
    return _get(path_of("sessions", session_id, "turns", turn_id, "stream"))


# Events. -------------------------------------------------------------------------------------


def read_events(session_id: str, *, after: int, limit: int | None) -> Operation[EventPage]:
    return Operation(
        _get(path_of("sessions", session_id, "events"), query_of(after=after, limit=limit)), _value(EventPage)
    )


def stream_events(session_id: str) -> Request:
    return _get(path_of("sessions", session_id, "events"))


# Approvals. ----------------------------------------------------------------------------------


def list_approvals(
    *,
    scope: ApprovalScope | None,
    status: ApprovalStatus | None,
    session_id: str | None,
    tool: str | None,
    limit: int | None,
    cursor: str | None,
) -> Operation[Page[Approval]]:
    query = query_of(scope=scope, status=status, session_id=session_id, tool=tool, limit=limit, cursor=cursor)
    return Operation(_get("/approvals", query), _page(Approval))


def list_session_approvals(
    session_id: str,
    *,
    status: ApprovalStatus | None,
    turn_id: str | None,
    tool: str | None,
    limit: int | None,
    cursor: str | None,
) -> Operation[Page[Approval]]:
    query = query_of(status=status, turn_id=turn_id, tool=tool, limit=limit, cursor=cursor)
    return Operation(_get(path_of("sessions", session_id, "approvals"), query), _page(Approval))


def get_approval(approval_id: str) -> Operation[Approval]:
    return Operation(_get(path_of("approvals", approval_id)), _value(Approval))


def get_approval_context(approval_id: str) -> Operation[ApprovalContext]:
    return Operation(_get(path_of("approvals", approval_id, "context")), _value(ApprovalContext))


def decide_approval(
    approval_id: str,
    decision: Decision,
    *,
    arguments: Mapping[str, Any] | None,
    comment: str | None,
    for_session: bool,
) -> Operation[Approval]:
    """The same decision again changes nothing, so a lost answer is asked for again."""
    body = _given(decision=decision, arguments=arguments, comment=comment, for_session=for_session or None)
    request = _with_json("POST", path_of("approvals", approval_id, "decision"), body, is_repeatable=True)
    return Operation(request, _value(Approval))


# Files. --------------------------------------------------------------------------------------


def add_attachment(session_id: str, file: Union[Path, bytes], name: str | None) -> Operation[Attachment]:
    """Raises ValueError when bytes come without a name."""
    if isinstance(file, bytes):
        if name is None:
            raise ValueError("bytes need a name")
        upload = Upload(name, file)
    else:
        upload = Upload(name or file.name, file.read_bytes())
    path = path_of("sessions", session_id, "attachments")
    return Operation(Request("POST", path, is_repeatable=False, upload=upload), _value(Attachment))


def list_attachments(session_id: str, *, limit: int | None, cursor: str | None) -> Operation[Page[Attachment]]:
    query = query_of(limit=limit, cursor=cursor)
    return Operation(_get(path_of("sessions", session_id, "attachments"), query), _page(Attachment))


def get_attachment(attachment_id: str) -> Operation[Attachment]:
    return Operation(_get(path_of("attachments", attachment_id)), _value(Attachment))


def get_attachment_content(attachment_id: str) -> Operation[File]:
    return Operation(_get(path_of("attachments", attachment_id, "content")), file_of)


def export_session(session_id: str, format: ExportFormat) -> Operation[File]:
    return Operation(_get(path_of("sessions", session_id, "export"), query_of(format=format)), file_of)


# Requests. -----------------------------------------------------------------------------------


def _get(path: str, query: Mapping[str, str] | None = None) -> Request:
    return Request("GET", path, is_repeatable=True, query=query or {})


def _post(path: str, body: Mapping[str, Any], idempotency_key: str | None) -> Request:
    """With a key, of its own if the caller gave none: a repeat gets the first answer."""
    key = {"idempotency-key": idempotency_key or str(uuid4())}
    return _with_json("POST", path, body, is_repeatable=True, headers=key)


def _conditional(method: str, path: str, if_match: str | None, body: Mapping[str, Any] | None = None) -> Request:
    """A write that has one effect however often it is sent, but for its condition: after it, that is stale."""
    headers = {} if if_match is None else {"if-match": if_match}
    if body is None:
        return Request(method, path, is_repeatable=if_match is None, headers=headers)
    return _with_json(method, path, body, is_repeatable=if_match is None, headers=headers)


def _with_json(
    method: str,
    path: str,
    body: Mapping[str, Any],
    *,
    is_repeatable: bool,
    headers: Mapping[str, str] | None = None,
) -> Request:
    sent = {"content-type": "application/json", **(headers or {})}
    return Request(method, path, is_repeatable=is_repeatable, headers=sent, body=json_body(body))


def _given(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


# Answers. ------------------------------------------------------------------------------------


def _session(reply: Reply) -> Session:
    return Session.model_validate({**reply.json(), "etag": reply.headers.get("etag")})


def _nothing(reply: Reply) -> None:
    return None


def _value(model: type[M]) -> Callable[[Reply], M]:
    return lambda reply: model.model_validate_json(reply.body)


def _page(model: type[M]) -> Callable[[Reply], Page[M]]:
    return lambda reply: Page[model].model_validate_json(reply.body)  # type: ignore[valid-type]  # a class at run time
