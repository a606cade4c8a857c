"""The blocking client. Made from `_async.py` by `devtools.clients.blocking`: change that one."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, TypeVar, Union

import httpx

from ._core import operations
from ._core.following import SILENCE_S, Following, FollowingSession, FollowingTurn
from ._core.http import Operation, Reply, Request, result_of, root_of
from ._core.operations import UNSET, Unset
from ._core.retrying import Attempts, Retries
from ._core.waiting import Waiting
from ._version import USER_AGENT
from .errors import ConnectionLost
from .events import EventPage, SessionEvent, TurnEvent
from .models import (
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
)

T = TypeVar("T")
E = TypeVar("E")

_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


class Stream(Generic[E]):
    """Events as they come. Leaving the block, or reading to the end, closes the connection."""

    def __init__(self, events: Generator[E, None, None]) -> None:
        self._events = events

    def __iter__(self) -> Iterator[E]:
        return self._events

    def __next__(self) -> E:
        return self._events.__next__()

    def close(self) -> None:
        self._events.close()

    def __enter__(self) -> Stream[E]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Client:
    """One caller of one service. Its connections are shared by all its calls; close it, or use it as a block.

    Every method raises ApiError when the service refuses, and ConnectionLost when no answer comes. A request that may
    be sent twice is tried again after 429, 503 and lost connections; each post has an idempotency key for that.
    """

    def __init__(
        self,
        base_url: str,
        *,
        token: Union[str, Callable[[], str], None] = None,
        headers: Mapping[str, str] | None = None,
        retries: Retries = Retries(),
        timeout_s: float = 30.0,
        http: httpx.Client | None = None,
    ) -> None:
        """base_url: of the service, such as `https://func-....azurewebsites.net`.

        token: for `Authorization: Bearer`; a function is asked before each request, and may renew it. headers: of every
        request, such as `x-dev-user` on a laptop. timeout_s: of connecting, and of each silence within an answer.
        http: a client with a proxy or certificates of your own; it is not closed with this one.
        """
        self._root = root_of(base_url, has_token=token is not None)
        self._token = token
        self._headers = {"user-agent": USER_AGENT, **(headers or {})}
        self._retries = retries
        self._timeout_s = timeout_s
        self._owns_http = http is None
        self._http = http or httpx.Client()

    def close(self) -> None:
        if self._owns_http:
            self._http.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # Sessions. ---------------------------------------------------------------------------------

    def create_session(
        self,
        *,
        name: str | None = None,
        agent_id: str | None = None,
        template: str | None = None,
        config: ConfigFields | None = None,
        tags: Sequence[str] | None = None,
        metadata: Mapping[str, Any] | None = None,
        id: str | None = None,
        idempotency_key: str | None = None,
    ) -> Session:
        """Open a session. id: the wanted one; it gets another when somebody else's session has it."""
        return self._run(
            operations.create_session(
                name=name,
                agent_id=agent_id,
                template=template,
                config=config,
                tags=tags,
                metadata=metadata,
                id=id,
                idempotency_key=idempotency_key,
            )
        )

    def list_sessions(
        self,
        *,
        status: SessionStatus | None = None,
        tag: str | None = None,
        agent_id: str | None = None,
        q: str | None = None,
        parent_session_id: str | None = None,
        sort: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> Page[ListedSession]:
        """The sessions that the caller owns or participates in, newest first unless `sort` says otherwise.

        parent_session_id: those of this one's subagents instead.
        """
        return self._run(
            operations.list_sessions(
                status=status,
                tag=tag,
                agent_id=agent_id,
                q=q,
                parent_session_id=parent_session_id,
                sort=sort,
                limit=limit,
                cursor=cursor,
            )
        )

    def get_session(self, session_id: str) -> Session:
        return self._run(operations.get_session(session_id))

    def update_session(
        self,
        session_id: str,
        *,
        name: str | Unset | None = UNSET,
        agent_id: str | Unset | None = UNSET,
        config: ConfigFields | Unset = UNSET,
        tags: Sequence[str] | Unset = UNSET,
        metadata: Mapping[str, Any] | Unset = UNSET,
        if_match: str | None = None,
    ) -> Session:
        """Change what is given and leave the rest. if_match: an `etag`; Conflict when the session has changed since."""
        return self._run(
            operations.update_session(
                session_id,
                name=name,
                agent_id=agent_id,
                config=config,
                tags=tags,
                metadata=metadata,
                if_match=if_match,
            )
        )

    def activate_session(self, session_id: str) -> Session:
        """The first message does the same."""
        return self._run(operations.change_session(session_id, "activate"))

    def suspend_session(self, session_id: str) -> Session:
        """Hold its turns, wherever they are."""
        return self._run(operations.change_session(session_id, "suspend"))

    def resume_session(self, session_id: str) -> Session:
        return self._run(operations.change_session(session_id, "resume"))

    def end_session(self, session_id: str) -> Session:
        """Make it read-only, for good."""
        return self._run(operations.change_session(session_id, "end"))

    def delete_session(self, session_id: str, *, if_match: str | None = None) -> None:
        """Erase it with all that belongs to it."""
        self._run(operations.delete_session(session_id, if_match=if_match))

    # Messages and turns. -------------------------------------------------------------------------

    def post_message(
        self,
        session_id: str,
        content: str,
        *,
        attachment_ids: Sequence[str] = (),
        approval_mode: ApprovalMode | None = None,
        concurrency: Concurrency | None = None,
        output_schema: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
    ) -> PostedTurn:
        """Post a message, which begins a turn. It is posted once however often the request has to be sent.

        idempotency_key: your own, so that a repeat by another process of yours is the same message too.
        """
        return self._run(
            operations.post_message(
                session_id,
                content,
                attachment_ids=attachment_ids,
                approval_mode=approval_mode,
                concurrency=concurrency,
                output_schema=output_schema,
                idempotency_key=idempotency_key,
            )
        )

    def regenerate_message(
        self,
        session_id: str,
        message_id: str,
        *,
        approval_mode: ApprovalMode | None = None,
        concurrency: Concurrency | None = None,
        idempotency_key: str | None = None,
    ) -> PostedTurn:
        """Answer a user's message again, on a branch of its own."""
        return self._run(
            operations.regenerate_message(
                session_id,
                message_id,
                approval_mode=approval_mode,
                concurrency=concurrency,
                idempotency_key=idempotency_key,
            )
        )

    def edit_message(
        self,
        session_id: str,
        message_id: str,
        content: str,
        *,
        attachment_ids: Sequence[str] = (),
        approval_mode: ApprovalMode | None = None,
        concurrency: Concurrency | None = None,
        idempotency_key: str | None = None,
    ) -> PostedTurn:
        """Say a user's message anew, on a branch of its own."""
        return self._run(
            operations.edit_message(
                session_id,
                message_id,
                content,
                attachment_ids=attachment_ids,
                approval_mode=approval_mode,
                concurrency=concurrency,
                idempotency_key=idempotency_key,
            )
        )

    def list_messages(
        self,
        session_id: str,
        *,
        role: MessageRole | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        q: str | None = None,
        order: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> Page[Message]:
        """The history, oldest first unless `order` is `desc`. since, until: aware times."""
        return self._run(
            operations.list_messages(
                session_id, role=role, since=since, until=until, q=q, order=order, limit=limit, cursor=cursor
            )
        )

    def get_message(self, session_id: str, message_id: str) -> Message:
        return self._run(operations.get_message(session_id, message_id))

    def list_turns(self, session_id: str, *, limit: int | None = None, cursor: str | None = None) -> Page[Turn]:
        """Newest first."""
        return self._run(operations.list_turns(session_id, limit=limit, cursor=cursor))

    def get_turn(self, session_id: str, turn_id: str) -> Turn:
        return self._run(operations.get_turn(session_id, turn_id))

    def cancel_turn(self, session_id: str, turn_id: str) -> Turn:
        """Stop a turn; it may still run when this returns."""
        return self._run(operations.cancel_turn(session_id, turn_id))

    def wait_for_turn(
        self, session_id: str, turn_id: str, *, timeout_s: float | None = None, past_approvals: bool = False
    ) -> Turn:
        """The turn once it is over, or waits for an approval. past_approvals: only once it is over.

        Raises TurnStillOpen after `timeout_s`; the turn goes on.
        """
        waiting = Waiting(now=time.monotonic(), timeout_s=timeout_s, past_approvals=past_approvals)
        while True:
            turn = self.get_turn(session_id, turn_id)
            pause_s = waiting.pause_after(turn, now=time.monotonic())
            if pause_s is None:
                return turn
            time.sleep(pause_s)

    def stream_turn(self, session_id: str, turn_id: str, *, after: int | None = None) -> Stream[TurnEvent]:
        """A turn's frames until its `TurnEnd`, from its beginning or after a frame's `seq`.

        A broken connection is made again, and goes on where it broke. When the service has lost what came in between,
        it tells the answers again: `MessageStart` with a higher attempt (`TurnText` does what that asks for).
        """
        request = operations.stream_turn(session_id, turn_id)
        return Stream(self._follow(FollowingTurn(request, after, self._retries)))

    # Events. -----------------------------------------------------------------------------------

    def read_events(self, session_id: str, *, after: int = 0, limit: int | None = None) -> EventPage:
        """The events after a number, up to now. `last_seq` is where `stream_events` goes on from here."""
        return self._run(operations.read_events(session_id, after=after, limit=limit))

    def stream_events(self, session_id: str, *, after: int = 0) -> Stream[SessionEvent]:
        """A session's events after a number, then live, for as long as the caller reads.

        A broken connection is made again, and goes on where it broke. A `Gap` says that events are lost for good: read
        the messages, then go on.
        """
        return Stream(self._follow(FollowingSession(operations.stream_events(session_id), after, self._retries)))

    # Approvals. --------------------------------------------------------------------------------

    def list_approvals(
        self,
        *,
        scope: ApprovalScope | None = None,
        status: ApprovalStatus | None = None,
        session_id: str | None = None,
        tool: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> Page[Approval]:
        """What the caller may decide, newest first; with `own_turns`, what turns wait for that the caller asked for."""
        return self._run(
            operations.list_approvals(
                scope=scope, status=status, session_id=session_id, tool=tool, limit=limit, cursor=cursor
            )
        )

    def list_session_approvals(
        self,
        session_id: str,
        *,
        status: ApprovalStatus | None = None,
        turn_id: str | None = None,
        tool: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> Page[Approval]:
        """A session's approvals, newest first, whether or not the caller may decide them."""
        return self._run(
            operations.list_session_approvals(
                session_id, status=status, turn_id=turn_id, tool=tool, limit=limit, cursor=cursor
            )
        )

    def get_approval(self, approval_id: str) -> Approval:
        return self._run(operations.get_approval(approval_id))

    def get_approval_context(self, approval_id: str) -> ApprovalContext:
        """What led to the call: the question, what the agent wrote, earlier calls, and what the model had read."""
        return self._run(operations.get_approval_context(approval_id))

    def decide_approval(
        self,
        approval_id: str,
        decision: Decision,
        *,
        arguments: Mapping[str, Any] | None = None,
        comment: str | None = None,
        for_session: bool = False,
    ) -> Approval:
        """Approve or reject; with `arguments`, approve these instead. The same decision again changes nothing.

        Raises Conflict when it was decided otherwise, TooLate after its time.
        """
        return self._run(
            operations.decide_approval(
                approval_id, decision, arguments=arguments, comment=comment, for_session=for_session
            )
        )

    # Files. ------------------------------------------------------------------------------------

    def add_attachment(self, session_id: str, file: Union[Path, bytes], *, name: str | None = None) -> Attachment:
        """Upload a file, which is held in memory. name: of bytes; of a path by default its own.

        Not sent again after a lost connection, since it has no idempotency key.
        """
        return self._run(operations.add_attachment(session_id, file, name))

    def list_attachments(
        self, session_id: str, *, limit: int | None = None, cursor: str | None = None
    ) -> Page[Attachment]:
        """Oldest first."""
        return self._run(operations.list_attachments(session_id, limit=limit, cursor=cursor))

    def get_attachment(self, attachment_id: str) -> Attachment:
        return self._run(operations.get_attachment(attachment_id))

    def get_attachment_content(self, attachment_id: str) -> File:
        return self._run(operations.get_attachment_content(attachment_id))

    def export_session(self, session_id: str, format: ExportFormat = "json") -> File:
        """The conversation as a file."""
        return self._run(operations.export_session(session_id, format))

    # Lists. ------------------------------------------------------------------------------------

    def every(self, page: Callable[..., Page[T]], *args: Any, **filters: Any) -> Iterator[T]:
        """Every item of a list, page by page: `client.every(client.list_messages, session_id, role="user")`."""
        cursor: str | None = None
        while True:
            found = page(*args, **{**filters, "cursor": cursor})
            for item in found.items:
                yield item
            cursor = found.next_cursor
            if cursor is None:
                return

    # Sending. ----------------------------------------------------------------------------------

    def _run(self, operation: Operation[T]) -> T:
        attempts = Attempts(self._retries, operation.request)
        while True:
            try:
                reply = self._send(operation.request)
                pause_s = attempts.pause_after(reply)
            except httpx.TransportError as error:
                pause_s = attempts.pause_after_loss(was_sent=not isinstance(error, _NOT_SENT))
                if pause_s is None:
                    raise ConnectionLost(f"{operation.request.method} {self._root}: {error!r}") from error
            else:
                if pause_s is None:
                    break
            time.sleep(pause_s)
        return result_of(operation, reply)

    def _send(self, request: Request) -> Reply:
        response = self._http.send(self._built(request, httpx.Timeout(self._timeout_s)))
        return Reply(response.status_code, response.headers, response.content)

    def _follow(self, stream: Following[E]) -> Generator[E, None, None]:
        timeout = httpx.Timeout(self._timeout_s, read=SILENCE_S)
        while not stream.is_over:
            try:
                response = self._http.send(self._built(stream.request, timeout), stream=True)
                try:
                    if stream.opened(response.status_code, response.headers.get("content-type", "")):
                        for piece in response.iter_bytes():
                            for event in stream.received(piece):
                                yield event
                            if stream.is_over:
                                return
                        pause_s = stream.lost()
                    else:
                        content = response.read()
                        if stream.is_over:
                            return
                        pause_s = stream.refused(Reply(response.status_code, response.headers, content))
                finally:
                    response.close()
            except httpx.TransportError as error:
                pause_s = stream.lost()
                if pause_s is None:
                    raise ConnectionLost(f"GET {self._root}: {error!r}") from error
            if pause_s is None:
                raise ConnectionLost(f"GET {self._root}: the stream ends before it brings anything")
            time.sleep(pause_s)

    def _built(self, request: Request, timeout: httpx.Timeout) -> httpx.Request:
        headers = {**self._headers, **request.headers}
        if self._token is not None:
            headers["authorization"] = f"Bearer {self._token if isinstance(self._token, str) else self._token()}"
        upload = request.upload
        return self._http.build_request(
            request.method,
            self._root + request.path,
            params=request.query or None,
            headers=headers,
            content=request.body,
            files=None if upload is None else {"file": (upload.name, upload.content)},
            timeout=timeout,
        )
