"""Images that a model is shown: which, in what form, and never more than a request may carry."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from typing import Any

import pytest

from shared.errors import ErrorCode, Transient
from shared.sessions.agents.agent import DEFAULT_AGENT, plan_turn
from shared.sessions.context.images import IMAGE_TOKENS, MAX_IMAGES, MAX_REQUEST_BYTES, with_images
from shared.sessions.context.window import to_conversation
from shared.sessions.events import EventTarget
from shared.sessions.executor import AgentExecutor
from shared.sessions.llm.conversation import ModelImage, ModelToolCall, UserSaid
from shared.sessions.llm.protocol import ModelAnswer, ModelEnd, ModelEvent, ModelRequest, ModelText
from shared.sessions.models import FinishReason, MessageStatus, SessionConfig, Usage
from shared.sessions.records.steps import ContextMessage, StepStart

PNG = b"\x89PNG\r\n\x1a\npixels"
ROOM = 1_000_000


def _file(name: str, size: int = 1_000, media_type: str = "image/png") -> dict[str, Any]:
    return {"id": name, "name": name, "kind": "image", "media_type": media_type, "size_bytes": size}


def _said(turn: int, *files: dict[str, Any], tokens: int = 10) -> ContextMessage:
    return ContextMessage(
        role="user",
        content=f"words {turn}",
        tokens=tokens,
        turn_number=turn,
        step=0,
        status=MessageStatus.COMPLETED,
        note="note" if files else None,
        attachments=list(files) or None,
    )


def _shown(messages: list[ContextMessage]) -> list[list[str]]:
    return [[file["id"] for file in message.attachments or ()] for message in messages]


def test_the_newest_images_are_shown_up_to_their_number() -> None:
    older = _said(1, _file("old-1"), _file("old-2"))
    newer = _said(2, *(_file(f"new-{n}") for n in range(MAX_IMAGES - 1)))

    newest, oldest = with_images([newer, older], max_tokens=ROOM)

    assert _shown([newest, oldest]) == [[f"new-{n}" for n in range(MAX_IMAGES - 1)], ["old-1"]]
    assert (newest.tokens, oldest.tokens) == (10 + (MAX_IMAGES - 1) * IMAGE_TOKENS, 10 + IMAGE_TOKENS)


def test_images_that_no_longer_fit_give_way_to_smaller_ones() -> None:
    half = MAX_REQUEST_BYTES // 2
    big = [_file(f"big-{n}", half - 1_000) for n in range(3)]

    (message,) = with_images([_said(1, *big, _file("small", 2_000))], max_tokens=ROOM)

    assert _shown([message]) == [["big-0", "big-1", "small"]]


@pytest.mark.parametrize(
    "file",
    [_file("a", media_type="image/tiff"), _file("a", media_type="application/pdf"), _file("a", 5 * 1024 * 1024 + 1)],
    ids=["a format no model sees", "no image", "too large"],
)
def test_what_a_model_cannot_see_is_not_shown(file: dict[str, Any]) -> None:
    (message,) = with_images([_said(1, file)], max_tokens=ROOM)

    assert (message.attachments, message.tokens, message.note) == ([], 10, "note")


@pytest.mark.parametrize(("tokens", "count"), [(0, 0), (IMAGE_TOKENS - 1, 0), (2 * IMAGE_TOKENS, 2), (ROOM, 3)])
def test_images_take_no_more_of_the_window_than_they_are_given(tokens: int, count: int) -> None:
    (message,) = with_images([_said(1, _file("a"), _file("b"), _file("c"))], max_tokens=tokens)

    assert len(message.attachments or ()) == count


def test_the_cost_of_an_image_is_the_tile_formulas_worst() -> None:
    # 2048 x 768 is 4 x 2 tiles of 512; OpenAI's own examples are below: 765 for 1024 x 1024, 1105 for 2048 x 4096.
    assert IMAGE_TOKENS == 1_445


def test_images_stand_between_what_is_told_of_them_and_the_users_words() -> None:
    image = ModelImage("image/png", PNG)

    said = to_conversation([_said(1, _file("a"), _file("gone"))], {"a": image})

    # Each API sends `before`, then the images, then the text.
    assert said == [UserSaid(text="words 1", before=("note",), images=(image,))]


# The executor. ---------------------------------------------------------------------------------

_END = ModelEnd(
    FinishReason.TOOL_CALLS, Usage(input_tokens=3, output_tokens=2), [ModelToolCall("id", "calculate", "{}")]
)


class _Model:
    """A model that says the same always, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[ModelRequest] = []

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent]:
        self.asked.append(request)
        yield ModelText("one ")
        yield ModelText("two")
        yield _END


class _Album:
    def __init__(self, **images: bytes) -> None:
        self.images = images
        self.read_ids: list[tuple[str, str]] = []

    async def read(self, session_id: str, attachment_id: str) -> ModelImage | None:
        self.read_ids.append((session_id, attachment_id))
        data = self.images.get(attachment_id)
        return None if data is None else ModelImage("image/png", data)


class _AwayAlbum:
    async def read(self, session_id: str, attachment_id: str) -> ModelImage | None:
        raise Transient(ErrorCode.DATABASE_ERROR, "away")


def _start(*context: ContextMessage, vision: bool, max_context_tokens: int = 100_000) -> StepStart:
    agent = DEFAULT_AGENT.model_copy(update={"vision": vision})
    config = SessionConfig(max_context_tokens=max_context_tokens)
    return StepStart(
        turn_id="turn",
        step=1,
        target=EventTarget("session", 0, 0),
        requested_by="ann",
        plan=plan_turn(agent, config, model="m", approval_mode=None),
        message_id="message",
        message_created_at=datetime(2026, 1, 1, tzinfo=UTC),
        attempt=1,
        context=list(context),
    )


def _images_in(request: ModelRequest) -> int:
    return sum(len(said.images) for said in request.conversation if isinstance(said, UserSaid))


async def test_an_agent_that_sees_is_shown_the_images_of_its_session() -> None:
    model, album = _Model(), _Album(a=PNG)

    await AgentExecutor(model, images=album).execute(_start(_said(1, _file("a"), _file("gone")), vision=True), [])

    assert album.read_ids == [("session", "a"), ("session", "gone")]
    assert _images_in(model.asked[0]) == 1


@pytest.mark.parametrize(("vision", "album"), [(False, _Album(a=PNG)), (True, None)], ids=["blind", "nothing to read"])
async def test_others_are_only_told_of_them(vision: bool, album: _Album | None) -> None:
    model = _Model()

    await AgentExecutor(model, images=album).execute(_start(_said(1, _file("a")), vision=vision), [])

    assert album is None or album.read_ids == []
    assert model.asked[0].conversation == [UserSaid("words 1", ("note",))]


async def test_images_push_older_messages_out_of_the_window() -> None:
    start = _start(_said(2, _file("a")), _said(1, tokens=3_000), vision=True, max_context_tokens=4_000)
    executor = AgentExecutor(_Model(), images=_Album(a=PNG))

    request = await executor.request(start, [])

    assert [said.text for said in request.conversation] == ["words 2"]
    assert _images_in(request) == 1


async def test_a_store_of_images_that_is_away_is_worth_another_try() -> None:
    with pytest.raises(Transient):
        await AgentExecutor(_Model(), images=_AwayAlbum()).execute(_start(_said(1, _file("a")), vision=True), [])


async def test_an_answer_comes_whole_or_as_it_is_said() -> None:
    executor, start = AgentExecutor(_Model()), _start(_said(1), vision=False)

    whole = await executor.execute(start, [])
    streamed = [event async for event in await executor.execute(start, [], stream=True)]

    assert whole == ModelAnswer("one two", _END)
    assert streamed == [ModelText("one "), ModelText("two"), _END]
