"""A client of the wire contract, as one user: every answer it gets is checked against the OpenAPI document."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import httpx
import orjson

from tests.contract.wire import WireContract
from tests.e2e.support.processes import AppHost
from tests.e2e.support.sse import ServerEvent, server_events

PATIENCE_S = 60.0
ENDED = frozenset({"completed", "failed", "cancelled"})

type Json = dict[str, Any]


def script(**fields: Any) -> str:
    """A message that tells the scripted model exactly what to answer; see devhost/model/README.md."""
    return f"#script {orjson.dumps(fields).decode()}"


def call(name: str, **arguments: Any) -> Json:
    """A scripted tool call."""
    return {"name": name, "arguments": arguments}


def post_call(url: str, body: str = "{}") -> Json:
    """A scripted call of the tool that is neither idempotent nor automatic."""
    return call("http_request", method="POST", url=url, body=body)


def model_calls(model_url: str, key: str) -> Json:
    """What the model saw of a script's key: `{"calls", "completed", "failed", "abandoned", "arrivals"}`."""
    origin = model_url.removesuffix("/v1")
    return dict(httpx.get(f"{origin}/__calls", params={"key": key}, trust_env=False).json())


def once[T](told: Iterable[T]) -> list[T]:
    """Without what was told again: an activity that runs twice says everything twice."""
    return list(dict.fromkeys(told))


async def eventually[T](look: Callable[[], Awaitable[T | None]], what: str, limit_s: float = PATIENCE_S) -> T:
    """Ask until there is an answer that is not None or empty."""
    async with asyncio.timeout(limit_s):
        while True:
            found = await look()
            if found:
                return found
            await asyncio.sleep(0.03)
    raise AssertionError(what)


async def sweep(host: AppHost) -> None:
    """Run the sweep now instead of waiting for its time."""
    await run_now(host, "sweep")


_BETWEEN_RUNS_S = 0.25
"""Nobody says when a run has ended. Runs that begin faster than they end, as on a busy machine, slow each other."""
_began: dict[tuple[str, str], float] = {}


async def run_now(host: AppHost, function: str) -> None:
    """Run a timer's function now instead of waiting for its time; a moment after the last time, if that was just
    now."""
    key = (host.base_url, function)
    await asyncio.sleep(_began.get(key, 0.0) + _BETWEEN_RUNS_S - time.monotonic())
    _began[key] = time.monotonic()
    async with httpx.AsyncClient(base_url=host.base_url, headers=host.admin_headers, trust_env=False) as client:
        response = await client.post(f"/admin/functions/{function}", json={"input": ""})
        assert response.status_code == 202, response.text


async def open_api(host: AppHost, user: str = "olga;approver", *, is_older: bool = False) -> Api:
    """A client of a host of one's own, with the document that this host serves. is_older: it runs older code."""
    async with httpx.AsyncClient(base_url=host.base_url, trust_env=False) as client:
        document = (await client.get("/api/v1/openapi.json")).json()
        return Api(host.base_url, WireContract(document, is_older=is_older), user)


class Api:
    """One user's view. user: `NAME[;role,role]`."""

    def __init__(self, base_url: str, contract: WireContract | None, user: str = "olga;approver") -> None:
        self.base_url = base_url
        self.user = user
        self.headers = {"x-dev-user": user}
        self._contract = contract
        self._http = httpx.AsyncClient(base_url=base_url, headers=self.headers, timeout=PATIENCE_S, trust_env=False)
        self._others: list[Api] = []

    def as_user(self, user: str) -> Api:
        """The same server, seen by somebody else; closed with this client."""
        self._others.append(Api(self.base_url, self._contract, user))
        return self._others[-1]

    async def aclose(self) -> None:
        for other in self._others:
            await other.aclose()
        await self._http.aclose()

    async def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        """path: as in the OpenAPI document, from `/api`."""
        response = await self._http.request(method, path, **options)
        if self._contract is not None:
            self._contract.check(response)
        return response

    async def get(self, path: str, **options: Any) -> httpx.Response:
        return await self.request("GET", path, **options)

    async def post(self, path: str, json: Any = None, **options: Any) -> httpx.Response:
        if json is not None:
            options["json"] = json
        return await self.request("POST", path, **options)

    # Sessions and turns. -----------------------------------------------------------------------

    async def session(self, **config: Any) -> str:
        """Open a session; its id."""
        response = await self.post("/api/v1/sessions", {"config": config})
        assert response.status_code == 201, response.text
        return str(response.json()["id"])

    async def session_under(self, *, tools: list[str] | None = None, **policy: Any) -> str:
        """Open a session with an agent whose tool `http_request` has this approval policy; its id. tools: None: all."""
        return await self.session_with(tools=tools, policies={"http_request": policy})

    async def unattended_session(self, **agent: Any) -> str:
        """Open a session with an agent whose approval floor lets mode `auto` send requests; its id."""
        return await self.session_with(approval_floor={"http_request": "auto"}, **agent)

    async def session_with(self, **agent: Any) -> str:
        """Open a session with an agent of its own; its id."""
        agent_id = f"own-{uuid4()}"
        body = {"name": "Own", "instructions": "Be exact.", **agent}
        made = await self.as_user("root;admin").request("PUT", f"/api/v1/agents/{agent_id}", json=body)
        assert made.status_code in {200, 201}, made.text
        response = await self.post("/api/v1/sessions", {"agent_id": agent_id})
        assert response.status_code == 201, response.text
        return str(response.json()["id"])

    async def say(self, session_id: str, content: str, **body: Any) -> str:
        """Post a message; the id of its turn."""
        response = await self.post(f"/api/v1/sessions/{session_id}/messages", {"content": content, **body})
        assert response.status_code == 202, response.text
        return str(response.json()["turn"]["id"])

    async def turn(self, session_id: str, turn_id: str) -> Json:
        response = await self.get(f"/api/v1/sessions/{session_id}/turns/{turn_id}")
        assert response.status_code == 200, response.text
        return dict(response.json())

    async def until(self, session_id: str, turn_id: str, *statuses: str) -> Json:
        """Wait until a turn is in one of these states (any end by default); the turn."""
        wanted = frozenset(statuses) or ENDED

        async def look() -> Json | None:
            turn = await self.turn(session_id, turn_id)
            if turn["status"] in wanted:
                return turn
            assert turn["status"] not in ENDED, f"the turn ended: {turn}"
            return None

        return await eventually(look, f"turn {turn_id} to be {sorted(wanted)}")

    async def cancel(self, session_id: str, turn_id: str) -> httpx.Response:
        return await self.post(f"/api/v1/sessions/{session_id}/turns/{turn_id}/cancel")

    async def messages(self, session_id: str, turn_id: str | None = None, role: str | None = None) -> list[Json]:
        """The history, oldest first."""
        found: list[Json] = []
        cursor: str | None = None
        while True:
            query = {"limit": "200", **({"cursor": cursor} if cursor else {}), **({"role": role} if role else {})}
            page = (await self.get(f"/api/v1/sessions/{session_id}/messages", params=query)).json()
            found += [message for message in page["items"] if turn_id in {None, message["turn_id"]}]
            cursor = page["next_cursor"]
            if cursor is None:
                return found

    async def answers(self, session_id: str, turn_id: str) -> dict[str, str]:
        """The stored assistant messages of a turn: text by message id."""
        found = await self.messages(session_id, turn_id, "assistant")
        return {message["id"]: message["content"] for message in found}

    # Approvals. --------------------------------------------------------------------------------

    async def approvals(self, session_id: str, status: str | None = "pending") -> list[Json]:
        query = {"session_id": session_id, **({"status": status} if status else {})}
        response = await self.get("/api/v1/approvals", params=query)
        assert response.status_code == 200, response.text
        return list(response.json()["items"])

    async def approval(self, session_id: str) -> Json:
        """Wait for a pending approval of a session."""
        return (await eventually(lambda: self.approvals(session_id), "an approval"))[0]

    async def decide(self, approval_id: str, decision: str, **body: Any) -> httpx.Response:
        return await self.post(f"/api/v1/approvals/{approval_id}/decision", {"decision": decision, **body})

    # Events. -----------------------------------------------------------------------------------

    async def events(self, session_id: str, after: int = 0) -> list[Json]:
        """JSON replay to the present; every envelope is checked, and that no number is missing."""
        found: list[Json] = []
        position: str | None = str(after)
        while position is not None:
            page = (await self.get(f"/api/v1/sessions/{session_id}/events", params={"after": position})).json()
            assert not page["gap"]
            found += page["items"]
            position = page["next_cursor"]
        assert [envelope["seq"] for envelope in found] == list(range(after + 1, after + 1 + len(found)))
        for envelope in found:
            self._check_envelope(envelope)
        return found

    @asynccontextmanager
    async def session_stream(self, session_id: str, after: int = 0) -> AsyncIterator[AsyncIterator[ServerEvent]]:
        """A session's events live; leaving the block disconnects."""
        headers = {"accept": "text/event-stream", "last-event-id": str(after)}
        path = f"/api/v1/sessions/{session_id}/events"
        async with self._http.stream("GET", path, headers=headers) as response:
            assert response.headers["content-type"].startswith("text/event-stream")
            yield self._checked(server_events(response))

    @asynccontextmanager
    async def opened(self, path: str) -> AsyncIterator[httpx.Response]:
        """The answer to a request for a stream, whose body is not read yet; leaving the block disconnects."""
        async with self._http.stream("GET", path, headers={"accept": "text/event-stream"}) as response:
            yield response

    async def turn_stream(self, session_id: str, turn_id: str, after: int | None = None) -> list[ServerEvent]:
        """A turn's stream until it ends by itself."""
        headers = {} if after is None else {"last-event-id": str(after)}
        path = f"/api/v1/sessions/{session_id}/turns/{turn_id}/stream"
        async with asyncio.timeout(PATIENCE_S), self._http.stream("GET", path, headers=headers) as response:
            assert response.status_code == 200
            found = [event async for event in server_events(response)]
        for event in found:
            if self._contract is not None:
                self._contract.check_frame_event(event.event, event.data)
        return found

    async def _checked(self, events: AsyncIterator[ServerEvent]) -> AsyncIterator[ServerEvent]:
        async for event in events:
            if event.event != "gap":
                assert (event.id, event.event) == (event.data["seq"], event.data["type"])
                self._check_envelope(event.data)
            yield event

    def _check_envelope(self, envelope: Json) -> None:
        if self._contract is not None:
            self._contract.check_envelope(envelope)
