"""An MCP server asks the user in the middle of a call: the turn waits without a process and goes on with the answer."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from tests.e2e.support.client import ENDED, Api, Json, call, eventually, open_api, script
from tests.e2e.support.mcp import RoomsServer
from tests.e2e.support.processes import AppHost, HostDied, Sink

FORM: Json = {"type": "object", "properties": {"name": {"type": "string", "minLength": 1}}, "required": ["name"]}
ADA: Json = {"guest": {"action": "accept", "content": {"name": "Ada"}}}
MOST_LIVES, FEWEST_LIVES = 40, 6


class Asking:
    """A session whose agent books rooms at a server that asks for whom."""

    def __init__(self, api: Api, rooms: RoomsServer) -> None:
        self.api, self.rooms = api, rooms
        rooms.asks = FORM
        rooms.release()

    async def session(self, **config: Any) -> str:
        named = {**self.rooms.as_agents_name_it(), "rules": self.rooms.without_asking()}
        return await self.api.session_with(mcp_servers=[named], defaults=config)

    async def say(self, session_id: str) -> str:
        return await self.api.say(session_id, script(tool_calls=[[call("rooms__book", room="7")]], echo=True))

    async def waiting(self, **config: Any) -> tuple[str, str, Json]:
        """(session id, turn id, what is asked)."""
        session_id = await self.session(**config)
        turn_id = await self.say(session_id)
        return session_id, turn_id, await self.asked(session_id, turn_id)

    async def asked(self, session_id: str, turn_id: str) -> Json:
        (wait,) = (await self.api.until(session_id, turn_id, "waiting_input"))["waits"]
        return dict(wait)

    async def answer(self, wait: Json, answers: Json = ADA) -> httpx.Response:
        path = f"/api/v1/tool-calls/{wait['tool_call_id']}/input"
        return await self.api.post(path, {"wait_id": wait["id"], "answers": answers})

    async def ended(self, session_id: str, turn_id: str) -> tuple[str, str, str]:
        """(status of the turn, of its call, the model's last answer, which repeats what it was told)."""
        turn = await self.api.until(session_id, turn_id)
        return (
            turn["status"],
            turn["tool_calls"][0]["status"],
            list((await self.api.answers(session_id, turn_id)).values())[-1],
        )


@pytest.fixture
def asking(api: Api, sink: Sink) -> Asking:
    return Asking(api, RoomsServer(sink))


class TestAnswers:
    async def test_the_answer_reaches_the_server_and_its_result_the_model(self, asking: Asking, api: Api) -> None:
        session_id, turn_id, wait = await asking.waiting()
        assert (wait["asked_by"], wait["asked_of"], wait["kind"]) == ("rooms", "olga", "input")
        assert [(one["id"], one["message"]) for one in wait["questions"]] == [("guest", "For whom?")]

        answered = await asking.answer(wait)

        assert (answered.status_code, answered.json()["status"]) == (200, "answered")
        status, call_status, said = await asking.ended(session_id, turn_id)
        assert (status, call_status) == ("completed", "completed")
        assert "booked for Ada" in said
        first, second = (request.json()["params"] for request in asking.rooms.calls())
        assert (second["arguments"], second["requestState"]) == (first["arguments"], "room-7")
        events = [event for event in await api.events(session_id) if event["type"].startswith("tool_call.")]
        kinds = [event["type"] for event in events]
        assert set(kinds[:-2]) == {"tool_call.waiting"}
        assert kinds[-2:] == ["tool_call.answered", "tool_call.completed"]
        assert events[0]["data"]["wait"] == wait

    @pytest.mark.parametrize("action", ["decline", "cancel"])
    async def test_a_no_goes_to_the_server(self, asking: Asking, action: str) -> None:
        session_id, turn_id, wait = await asking.waiting()

        assert (await asking.answer(wait, {"guest": {"action": action}})).status_code == 200

        assert action in (await asking.ended(session_id, turn_id))[2]

    async def test_who_waits_for_the_turn_gets_it_when_it_waits_for_them(self, asking: Asking, api: Api) -> None:
        session_id = await asking.session()
        content = script(tool_calls=[[call("rooms__book", room="7")]])
        posted = await api.post(
            f"/api/v1/sessions/{session_id}/messages", {"content": content}, headers={"prefer": "wait=30"}
        )

        assert (posted.status_code, posted.json()["turn"]["status"]) == (202, "waiting_input")
        (wait,) = posted.json()["turn"]["waits"]
        await asking.answer(wait)
        await api.until(session_id, posted.json()["turn"]["id"])

    async def test_what_does_not_fit_or_comes_twice_is_refused_by_field(self, asking: Asking, api: Api) -> None:
        session_id, turn_id, wait = await asking.waiting()

        refused = await asking.answer(wait, {"guest": {"action": "accept", "content": {"name": ""}}})
        assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "answers.guest")
        other = api.as_user("olgas-friend;approver,admin")
        path = f"/api/v1/tool-calls/{wait['tool_call_id']}/input"
        assert (await other.post(path, {"wait_id": wait["id"], "answers": ADA})).status_code == 404
        stale = await api.post(path, {"wait_id": "0190aaaa-0000-7000-8000-000000000000", "answers": ADA})
        assert stale.status_code == 404
        said = await asyncio.gather(*(asking.answer(wait) for _ in range(4)))
        assert [one.status_code for one in said] == [200] * 4
        assert (await asking.answer(wait, {"guest": {"action": "decline"}})).status_code == 409
        await asking.ended(session_id, turn_id)
        assert len(asking.rooms.calls()) == 2

    async def test_an_approved_call_may_ask_too(self, asking: Asking, api: Api) -> None:
        session_id = await api.session_with(mcp_servers=[asking.rooms.as_agents_name_it()])
        turn_id = await asking.say(session_id)
        await api.decide((await api.approval(session_id))["id"], "approve")

        await asking.answer(await asking.asked(session_id, turn_id))

        assert (await asking.ended(session_id, turn_id))[:2] == ("completed", "completed")


class TestEndings:
    async def test_nobody_answers_in_time(self, asking: Asking) -> None:
        session_id, turn_id, wait = await asking.waiting(approval_timeout_seconds=1)

        status, call_status, said = await asking.ended(session_id, turn_id)

        assert (status, call_status) == ("completed", "failed")
        assert "did not answer in time" in said
        assert (await asking.answer(wait)).status_code == 410
        assert len(asking.rooms.calls()) == 1

    async def test_a_cancel_ends_the_wait(self, asking: Asking, api: Api) -> None:
        session_id, turn_id, wait = await asking.waiting()

        await api.cancel(session_id, turn_id)

        assert (await api.until(session_id, turn_id))["status"] == "cancelled"
        assert (await asking.answer(wait)).status_code == 409
        assert len(asking.rooms.calls()) == 1

    async def test_the_end_of_the_session_ends_the_wait(self, asking: Asking, api: Api) -> None:
        session_id, turn_id, wait = await asking.waiting()

        assert (await api.post(f"/api/v1/sessions/{session_id}/end")).status_code == 200

        assert (await api.until(session_id, turn_id))["status"] == "cancelled"
        assert (await asking.answer(wait)).status_code == 409

    async def test_a_suspended_session_goes_on_with_the_answer_when_it_is_resumed(
        self, asking: Asking, api: Api
    ) -> None:
        session_id, turn_id, wait = await asking.waiting()
        await api.post(f"/api/v1/sessions/{session_id}/suspend")
        assert (await asking.answer(wait)).status_code == 200
        assert len(asking.rooms.calls()) == 1

        await api.post(f"/api/v1/sessions/{session_id}/resume")

        assert (await asking.ended(session_id, turn_id))[:2] == ("completed", "completed")

    async def test_a_deleted_session_leaves_neither_question_nor_orchestration(
        self, asking: Asking, api: Api, parley: AppHost
    ) -> None:
        session_id, turn_id, wait = await asking.waiting()
        await eventually(lambda: _instances(parley, turn_id, 2), "the orchestration that waits")

        assert (await api.request("DELETE", f"/api/v1/sessions/{session_id}")).status_code in {202, 204}

        assert (await asking.answer(wait)).status_code == 404
        await eventually(lambda: _instances(parley, turn_id, 0), "the orchestrations to be gone")
        assert len(asking.rooms.calls()) == 1

    async def test_a_turn_over_its_budget_takes_the_answer_and_asks_no_model(self, asking: Asking, api: Api) -> None:
        plain = await api.session()
        used = (await api.until(plain, await api.say(plain, script(content="hi"))))["usage"]
        # Less than one step uses: it may begin, and no second.
        budget = (used["input_tokens"] + used["output_tokens"]) * 9 // 10
        session_id, turn_id, wait = await asking.waiting(max_turn_tokens=budget)

        await asking.answer(wait)

        turn = await api.until(session_id, turn_id)
        assert (turn["status"], turn["error"]["code"]) == ("failed", "TOKEN_LIMIT")
        assert turn["tool_calls"][0]["status"] == "completed"


class TestKilled:
    """`kill -9` of the host at every place where it can hurt."""

    @pytest.fixture
    async def own(self, own_host: AppHost, sink: Sink) -> AsyncIterator[Asking]:
        if not own_host.is_running():
            own_host.start()
        client = await open_api(own_host)
        yield Asking(client, RoomsServer(sink))
        await client.aclose()

    async def test_while_it_waits_the_question_stands(self, own: Asking, own_host: AppHost) -> None:
        session_id, turn_id, wait = await own.waiting()
        for _ in range(2):
            own_host.kill()
            own_host.start()

        assert await own.asked(session_id, turn_id) == wait
        await own.answer(wait)
        assert "booked for Ada" in (await own.ended(session_id, turn_id))[2]
        assert len(own.rooms.calls()) == 2

    async def test_right_after_the_answer_was_stored(self, own: Asking, own_host: AppHost) -> None:
        session_id, turn_id, wait = await own.waiting()
        await own.answer(wait)
        own_host.kill()
        own_host.start()

        status, call_status, said = await own.ended(session_id, turn_id)
        assert status == "completed"
        if call_status == "completed":
            assert len(own.rooms.calls()) == 2
        else:
            # It was cut in the very moment in which the server was called: then nobody knows, and says so.
            assert (call_status, "outcome is unknown" in said) == ("failed", True)
            assert len(own.rooms.calls()) <= 2
        assert (await own.answer(wait)).status_code == 200

    async def test_while_the_server_works_with_the_answer_its_outcome_is_unknown(
        self, own: Asking, own_host: AppHost, sink: Sink
    ) -> None:
        session_id, turn_id, wait = await own.waiting()
        sink.released.clear()
        await own.answer(wait)

        async def called() -> bool:
            return len(own.rooms.calls()) == 2

        await eventually(called, "the call with the answer")
        own_host.kill()
        own_host.start()
        sink.released.set()
        status, call_status, said = await own.ended(session_id, turn_id)
        assert (status, call_status) == ("completed", "failed")
        assert "outcome is unknown" in said
        assert len(own.rooms.calls()) == 2

    async def test_at_every_commit_it_is_asked_once_and_answered_once(self, own: Asking, own_host: AppHost) -> None:
        session_id = await own.session()
        own_host.stop()
        turn_id, lives = "", 0
        while True:
            lives += 1
            assert lives <= MOST_LIVES, f"the turn did not end:\n{own_host.log()[-3000:]}"
            try:
                own_host.start(DEVHOST_CRASH_AFTER_COMMIT="1", REDIS_PATIENCE_SECONDS="5")
            except HostDied:
                continue
            with contextlib.suppress(httpx.TransportError):
                turn_id = turn_id or await self._posted(own, session_id)
            if turn_id and await self._lives_until_the_end(own, own_host, session_id, turn_id):
                break
        assert lives >= FEWEST_LIVES
        own_host.stop()
        own_host.start()
        turn = await own.api.until(session_id, turn_id)
        assert (turn["status"], turn["error"], turn["waits"]) == ("completed", None, [])
        if turn["tool_calls"][0]["status"] != "completed":
            told = (await own.api.messages(session_id, turn_id, "tool"))[0]["content"]
            assert "outcome is unknown" in told
        assert len(own.rooms.calls()) <= 2
        audit = (await own.api.get(f"/api/v1/sessions/{session_id}/audit")).json()
        assert audit["verified"]
        asked = [line["details"]["wait_id"] for line in audit["items"] if line["action"] == "tool_call.waiting"]
        assert len(set(asked)) == len(asked) <= 1

    @staticmethod
    async def _posted(own: Asking, session_id: str) -> str:
        content = script(tool_calls=[[call("rooms__book", room="7")]], echo=True)
        path, headers = f"/api/v1/sessions/{session_id}/messages", {"idempotency-key": "once"}
        return str((await own.api.post(path, {"content": content}, headers=headers)).json()["turn"]["id"])

    @staticmethod
    async def _lives_until_the_end(own: Asking, host: AppHost, session_id: str, turn_id: str) -> bool:
        async def look() -> str | None:
            if not host.is_running():
                return "died"
            try:
                turn = await own.api.turn(session_id, turn_id)
                if turn["status"] in ENDED:
                    return "ended"
                for wait in turn["waits"]:
                    await own.answer(wait)
            except httpx.TransportError:
                pass  # it is just dying
            return None

        return await eventually(look, "the host to die or the turn to end") == "ended"


class TestResultsThatComeLater:
    async def test_killed_twice_while_they_wait_calls_take_their_results_once(
        self, own_host: AppHost, sink: Sink
    ) -> None:
        own_host.stop()
        own_host.start(AGENTS_FOLDER="tests/e2e/support/own_tools")
        api = await open_api(own_host)
        session_id = await api.session()
        asks = script(tool_calls=[[call("render", notify=sink.url("/render")), call("locate")]], echo=True)
        message = {"content": asks, "client_tools": [{"name": "locate"}]}
        turn_id = (await api.post(f"/api/v1/sessions/{session_id}/messages", message)).json()["turn"]["id"]

        async def both() -> list[Json] | None:
            waits: list[Json] = (await api.turn(session_id, turn_id))["waits"]
            return sorted(waits, key=lambda wait: wait["kind"], reverse=True) if len(waits) == 2 else None

        wait, of_client = await eventually(both, "both calls to wait")
        assert (of_client["kind"], of_client["tool"], of_client["asked_of"]) == ("client", "locate", "olga")
        assert (wait["kind"], wait["tool"], wait["questions"]) == ("result", "render", [])
        (given,) = (request.json() for request in sink.at("/render"))
        path = f"/api/v1/tool-calls/{wait['tool_call_id']}/result"
        assert str(given["url"]).endswith(path)
        for _ in range(2):
            own_host.kill()
            own_host.start()  # and its tool is gone, as after a deployment without it
        farm = api.as_user("farm")

        async def post(**told: Any) -> int:
            return (await farm.post(path, {"token": given["token"], **told})).status_code

        assert (await farm.post(path, {"token": "x", "content": "mine"})).status_code == 404
        assert await post(content="a", error="b") == 422
        assert await post(progress={"text": "half", "fraction": 0.5}) == 200
        assert [await post(content="film.mp4"), await post(content="film.mp4"), await post(content="no")] == [
            200,
            200,
            409,
        ]
        path = f"/api/v1/tool-calls/{of_client['tool_call_id']}/result"
        assert (await farm.post(path, {"content": "Rome"})).status_code == 404, "the page of nobody else"
        own_host.kill()
        own_host.start()
        assert [(await api.post(path, {"content": told})).status_code for told in ("Oslo", "Oslo", "Rome")] == [
            200,
            200,
            409,
        ]
        turn = await api.until(session_id, turn_id)
        assert (turn["status"], {one["status"] for one in turn["tool_calls"]}) == ("completed", {"completed"})
        read = " ".join(message["content"] for message in await api.messages(session_id, turn_id, "tool"))
        assert "film.mp4" in read
        assert "Oslo" in read
        assert len(sink.at("/render")) == 1
        told = [event for event in await api.events(session_id) if event["type"] == "tool_call.progress"]
        assert [event["data"]["text"] for event in told] == ["half"]
        await api.aclose()


async def _instances(host: AppHost, turn_id: str, count: int) -> bool:
    """Whether the task hub holds that many instances of the turn."""
    store = host.folder / "data" / "durable-parley.sqlite3"
    with contextlib.closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True)) as connection:
        found = connection.execute("SELECT count(*) FROM instances WHERE instance_id LIKE ?", (f"{turn_id}%",))
        return bool(found.fetchone()[0] == count)
