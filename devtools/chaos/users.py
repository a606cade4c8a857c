"""Users who live through their stories, whatever fails: they insist, wait, decide and come back.

Invariant: a user begins nothing while an earlier turn of the same session may run, except where the story says so.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Any, NamedTuple

import orjson
from aiohttp import FormData

from devtools.chaos.client import Answer, Client, World
from devtools.chaos.history import Outcome
from devtools.chaos.readers import Frames, Heard, follow_by_signalr, follow_session, follow_turn, never_read
from devtools.chaos.stories import Kind, Story, Vote, stories

ENDED = frozenset({"completed", "failed", "cancelled"})
_POLL_S = 0.25
_SIGNALR_SHARE, _SLOW_SHARE = 0.3, 0.15
_PULSES_PER_SESSION = 40
_CROWD, _LONG_CHARS, _LONG_EVERY_S = 40, 100_000, 4.0
"""An hour of it is 3.6 GB, unless somebody keeps it from being held for those who do not read."""


class Turned(NamedTuple):
    """A turn that a user saw end. Times are seconds of the run."""

    turn_id: str
    status: str
    posted_s: float
    ended_s: float


class StreamRead(NamedTuple):
    """A turn's stream, read to its end."""

    turn_id: str
    texts: dict[str, str]
    holes: tuple[str, ...]


class Upload(NamedTuple):
    attachment_id: str
    session_id: str
    digest: str


@dataclass
class Seen:
    """What all users saw."""

    heard: dict[str, Heard] = field(default_factory=dict)
    turned: list[Turned] = field(default_factory=list)
    streams: list[StreamRead] = field(default_factory=list)
    uploads: list[Upload] = field(default_factory=list)
    forks: list[tuple[str, str]] = field(default_factory=list)
    """(from, to)."""
    deaf: list[str] = field(default_factory=list)
    """Readers that did not hear a session's newest number at the end."""


class User:
    """Runs the stories of one number."""

    def __init__(self, world: World, seen: Seen, seed: int, number: int, *, tool_url: str) -> None:
        self._world = world
        self._seen = seen
        self._owner = Client(world, f"user-{number}")
        self._approvers = Client(world, "ann;approver"), Client(world, "ben;approver")
        self._stories = stories(seed, number, tool_url=tool_url)
        self._random = Random(f"readers {seed} {number}")  # noqa: S311  # it is to be repeated
        self._session_id = ""
        self._posted_s = 0.0
        self._readers: list[tuple[Heard, asyncio.Event, list[asyncio.Task[None]]]] = []

    async def run(self) -> None:
        """Until the run is stopping; then ends the story that runs."""
        try:
            await self._tell()
            await self._leave()
        finally:
            await self._stop_reading()

    async def _tell(self) -> None:
        for story in self._stories:
            if self._world.stopping.is_set():
                break
            if story.opens:
                await self._leave()
                await self._open(story.mark)
            if not self._session_id or self._world.gives_up.is_set():
                continue
            await self._live(story)
            if story.closes:
                await self._owner.insist("delete", "DELETE", self._path(), key=self._session_id)
                await self._leave(deleted=True)

    def _path(self, rest: str = "") -> str:
        return f"/sessions/{self._session_id}{rest}"

    # Sessions and their readers. ---------------------------------------------------------------

    async def _open(self, mark: str) -> None:
        headers = {"idempotency-key": mark}
        made = await self._owner.insist("create", "POST", "/sessions", key=mark, json={"name": mark}, headers=headers)
        if made.outcome is Outcome.OK:
            self._enter(str(made.body["id"]))

    def _enter(self, session_id: str) -> None:
        self._session_id = session_id
        heard = self._seen.heard.setdefault(session_id, Heard(session_id))
        ended = asyncio.Event()
        slow = self._random.random() < _SLOW_SHARE
        tasks = [asyncio.create_task(follow_session(self._owner, heard, slow=slow, ended=ended))]
        if self._random.random() < _SIGNALR_SHARE:
            tasks.append(asyncio.create_task(follow_by_signalr(self._owner, heard, ended=ended)))
        self._readers.append((heard, ended, tasks))

    async def _leave(self, *, deleted: bool = False) -> None:
        """Stop following; before that, whoever still reads must have heard the newest number."""
        for heard, _, _ in self._readers:
            if not deleted and self._world.stopping.is_set():
                await self._until_caught_up(heard)
        await self._stop_reading()
        self._session_id = ""

    async def _stop_reading(self) -> None:
        readers, self._readers = self._readers, []
        for _, ended, tasks in readers:
            ended.set()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _until_caught_up(self, heard: Heard) -> None:
        newest = 0
        while not self._world.gives_up.is_set():
            # From the beginning: a log that has forgotten all repeats the number that it was asked for.
            page = await self._owner.read(f"/sessions/{heard.session_id}/events?after=0&limit=1")
            newest = int(page.body.get("last_seq", 0))
            if page.status in {404, 410} or (page.status == 200 and heard.newest >= newest):
                return
            await asyncio.sleep(_POLL_S)
        self._seen.deaf.append(f"{heard.session_id}: heard up to {heard.newest} of {newest}")

    # Stories. ----------------------------------------------------------------------------------

    async def _live(self, story: Story) -> None:
        body: dict[str, Any] = {"content": story.content}
        if story.kind is Kind.FILE:
            body |= await self._upload(story)
        posted = await self._post(story.mark, body)
        if posted is None:
            return
        message_id, turn_id = posted
        async with self._streamed(turn_id):
            other: tuple[str, str] | None = None
            if story.kind in {Kind.CANCEL, Kind.INTERRUPT, Kind.SUSPEND}:
                await asyncio.sleep(story.after_s)
                other = await self._disturb(story, turn_id)
            await self._until_ended(turn_id, list(story.votes))
            if other is not None:
                await self._until_ended(other[1], list(story.votes))
        match story.kind:
            case Kind.REGENERATE:
                again = await self._post(
                    f"{story.mark}-again", {}, path=self._path(f"/messages/{message_id}/regenerate"), kind="regenerate"
                )
                if again is not None:
                    await self._until_ended(again[1], [])
            case Kind.FORK:
                made = await self._owner.ask("fork", "POST", self._path("/fork"), key=story.mark, json={})
                if made.outcome is Outcome.OK:
                    self._seen.forks.append((self._session_id, str(made.body["id"])))
                    self._enter(str(made.body["id"]))

    async def _post(
        self, mark: str, body: dict[str, Any], *, path: str | None = None, kind: str = "post"
    ) -> tuple[str, str] | None:
        """The ids of the message and its turn."""
        self._posted_s = self._world.history.now()
        answer = await self._owner.insist(
            kind,
            "POST",
            path or self._path("/messages"),
            key=mark,
            json=body,
            headers={"idempotency-key": mark},
            detail={"session_id": self._session_id},
        )
        if answer.outcome is not Outcome.OK:
            return None
        return str(answer.body["message"]["id"]), str(answer.body["turn"]["id"])

    async def _disturb(self, story: Story, turn_id: str) -> tuple[str, str] | None:
        """What the story does to its running turn; the ids of what it posted meanwhile."""
        match story.kind:
            case Kind.CANCEL:
                await self._owner.insist("cancel", "POST", self._path(f"/turns/{turn_id}/cancel"), key=turn_id)
            case Kind.INTERRUPT:
                mark = f"{story.mark}-instead"
                content = story.content.replace(f'"key":"{story.mark}"', f'"key":"{mark}"')
                return await self._post(mark, {"content": content, "concurrency": "interrupt"})
            case Kind.SUSPEND:
                if (await self._change("suspend")).outcome is Outcome.OK:
                    await asyncio.sleep(story.for_s)
                await self._change("resume")
        return None

    async def _change(self, verb: str) -> Answer:
        return await self._owner.insist(verb, "POST", self._path(f"/{verb}"), key=self._session_id)

    async def _upload(self, story: Story) -> dict[str, Any]:
        """What a message needs to have a tool read a new file. Nothing while it cannot be uploaded."""
        text = f"city,inhabitants\n{story.mark},{len(story.mark)}\n".encode()
        form = FormData()
        form.add_field("file", text, filename="cities.csv", content_type="text/csv")
        made = await self._owner.ask("upload", "POST", self._path("/attachments"), key=story.mark, data=form)
        if made.outcome is not Outcome.OK:
            return {}
        attachment_id = str(made.body["id"])
        self._seen.uploads.append(Upload(attachment_id, self._session_id, hashlib.sha256(text).hexdigest()))
        script = orjson.loads(story.content.removeprefix("#script "))
        script["tool_calls"] = [[{"name": "read_attachment", "arguments": {"attachment_id": attachment_id}}]]
        return {"content": f"#script {orjson.dumps(script).decode()}", "attachment_ids": [attachment_id]}

    # Turns and approvals. ----------------------------------------------------------------------

    @asynccontextmanager
    async def _streamed(self, turn_id: str) -> AsyncIterator[None]:
        """Half of the turns are read on their own streams, too."""
        if self._random.random() < 0.5:
            yield
            return
        frames = Frames()
        reading = asyncio.create_task(follow_turn(self._owner, self._session_id, turn_id, frames))
        try:
            yield
            if await reading:
                self._seen.streams.append(StreamRead(turn_id, frames.texts, tuple(frames.has_holes)))
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def _until_ended(self, turn_id: str, votes: list[Vote]) -> None:
        """Wait for a turn, and decide what waits in the session."""
        posted_s = self._posted_s
        while not self._world.gives_up.is_set():
            turn = await self._owner.read(self._path(f"/turns/{turn_id}"))
            status = turn.body.get("status")
            if status in ENDED:
                self._seen.turned.append(Turned(turn_id, str(status), posted_s, self._world.history.now()))
                return
            if status == "waiting_approval":
                found = await self._owner.read(self._path("/approvals"))
                for approval in found.body.get("items", []):
                    if approval["status"] == "pending":
                        await self._decide(str(approval["id"]), votes.pop(0) if votes else Vote.APPROVE)
            await asyncio.sleep(_POLL_S)

    async def _decide(self, approval_id: str, vote: Vote) -> None:
        ann, ben = self._approvers

        async def say(who: Client, decision: str) -> None:
            path = f"/approvals/{approval_id}/decision"
            body = {"decision": decision}
            await who.insist("decide", "POST", path, key=approval_id, json=body, detail={"decision": decision})

        match vote:
            case Vote.APPROVE:
                await say(ann, "approve")
            case Vote.REJECT:
                await say(ann, "reject")
            case Vote.TWICE:
                await say(ann, "approve")
                await say(ann, "approve")
            case Vote.AT_ONCE:
                await asyncio.gather(say(ann, "approve"), say(ben, "reject"))


async def crowd(world: World) -> None:
    """Long messages in one session, and many who follow it and never read."""
    client = Client(world, "crowd")
    made = await client.insist(
        "create", "POST", "/sessions", key="crowd", json={}, headers={"idempotency-key": "crowd"}
    )
    session_id = str(made.body.get("id", ""))
    ended = asyncio.Event()
    content = f'#script {{"tokens": 3}}\n{"long " * (_LONG_CHARS // 5)}'
    async with asyncio.TaskGroup() as group:
        for _ in range(_CROWD):
            group.create_task(never_read(client, session_id, ended))
        number = 0
        while not world.stopping.is_set():
            number += 1
            await client.insist(
                "post",
                "POST",
                f"/sessions/{session_id}/messages",
                key=f"crowd-{number}",
                json={"content": content, "concurrency": "enqueue"},
                headers={"idempotency-key": f"crowd-{number}"},
                detail={"session_id": session_id},
            )
            await asyncio.sleep(_LONG_EVERY_S)
        ended.set()


async def pulse(world: World, seen: Seen) -> None:
    """Short turns, one after the other: by them it is seen since when turns work again."""
    client = Client(world, "pulse")
    content = '#script {"tokens": 3}'
    number = 0
    session_id = ""
    while not world.stopping.is_set():
        if number % _PULSES_PER_SESSION == 0 or not session_id:
            key = f"pulse-{number}"
            headers = {"idempotency-key": key}
            made = await client.insist("create", "POST", "/sessions", key=key, json={"name": key}, headers=headers)
            session_id = str(made.body.get("id", ""))
        number += 1
        mark = f"pulse-{number}"
        posted_s = world.history.now()
        answer = await client.insist(
            "post",
            "POST",
            f"/sessions/{session_id}/messages",
            key=mark,
            json={"content": content, "concurrency": "enqueue"},
            headers={"idempotency-key": mark},
            detail={"session_id": session_id},
        )
        if answer.outcome is Outcome.OK:
            turn_id = str(answer.body["turn"]["id"])
            while not world.gives_up.is_set():
                turn = await client.read(f"/sessions/{session_id}/turns/{turn_id}")
                if turn.body.get("status") in ENDED:
                    seen.turned.append(Turned(turn_id, turn.body["status"], posted_s, world.history.now()))
                    break
                await asyncio.sleep(_POLL_S)
        await asyncio.sleep(_POLL_S)
