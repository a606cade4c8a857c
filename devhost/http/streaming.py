"""HTTP functions of the streaming kind: their requests go to the HTTP server of a worker, as in Azure.

A body with a length is read whole before the function is called; one in chunks goes on as it comes. The answer leaves
before the outputs, and none of them leave when its caller does not take it.
"""

from __future__ import annotations

from dataclasses import dataclass
from weakref import WeakKeyDictionary

from starlette.types import Receive, Scope

from devhost.app.workers import Worker
from devhost.asgi.replies import BodyTooLarge, ResponseWatch
from devhost.extensions.contract import CallerGone, FunctionFailed
from devhost.http.forwarding import proxied_headers
from devhost.http.proxy import AnswerBroken, CallerLeft, HostileHeader, Upstream

_CALLER_LEFT = "the caller left before it had the answer, so outputs are not sent"


def is_chunked(scope: Scope) -> bool:
    """Whether a request's body comes in chunks."""
    return any(name == b"transfer-encoding" for name, _ in scope["headers"])


class Upstreams:
    """The HTTP servers of the workers."""

    def __init__(self) -> None:
        self._known: WeakKeyDictionary[Worker, Upstream] = WeakKeyDictionary()

    def of(self, worker: Worker) -> Upstream:
        """The server of one worker."""
        found = self._known.get(worker)
        if found is None:
            found = self._known[worker] = Upstream(worker.port)
        return found


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request that a streaming function is to answer. body: None when it comes in chunks."""

    scope: Scope
    body: bytes | None
    receive: Receive
    send: ResponseWatch
    limit_bytes: int
    upstreams: Upstreams

    async def forward(self, worker: Worker, invocation_id: str) -> None:
        """See `Forward` in `../app/dispatch.py`."""
        upstream = self.upstreams.of(worker)
        headers = proxied_headers(self.scope, invocation_id, upstream.address)
        try:
            await upstream.forward(self.scope, headers, self.body, self.receive, self.send, self.limit_bytes)
        except CallerLeft as exc:
            raise CallerGone(_CALLER_LEFT) from exc
        except (AnswerBroken, BodyTooLarge, HostileHeader) as exc:
            raise FunctionFailed(f"{type(exc).__name__}: {exc}") from exc
