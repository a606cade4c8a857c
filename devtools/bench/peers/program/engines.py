"""Turns on each library. An engine is told of a turn, runs it in the background, and says what is streamed of it."""

from __future__ import annotations

import asyncio
import os
import time
import traceback
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Annotated, Any, Protocol, TypedDict

from devtools.bench.peers.program.conversation import Conversations
from devtools.bench.peers.program.watching import Watching

_PACE_S = 0.05
"""Durable texts leave at once first and then in batches, as Parley's do."""


class Engine(Protocol):
    async def open(self) -> None: ...

    async def start(self, session_id: str, turn_id: str, content: str) -> None:
        """Begin a turn; returns when it is as safe as the engine makes it."""
        ...

    def texts(self, turn_id: str) -> AsyncIterator[str]:
        """What a turn streams."""
        ...


class Tasks:
    """Work of the process beside its requests. What fails ends the process, and with it the measurement."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[None]] = set()

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            traceback.print_exception(error)
            os._exit(1)


class Plain:
    """No durability: a task of the process. A turn that is cut is lost."""

    def __init__(self) -> None:
        self._conversations, self._watching = Conversations(), Watching()
        self._tasks = Tasks()

    async def open(self) -> None:
        await self._conversations.open()

    async def start(self, session_id: str, turn_id: str, content: str) -> None:
        await self._conversations.add(session_id, turn_id, "user", content)
        self._tasks.start(self._run(session_id, turn_id))

    def texts(self, turn_id: str) -> AsyncIterator[str]:
        return self._watching.texts(turn_id)

    async def _run(self, session_id: str, turn_id: str) -> None:
        texts = []
        async for text in self._conversations.answer(await self._conversations.history(session_id)):
            texts.append(text)
            self._watching.tell(turn_id, text)
        await self._conversations.add(session_id, turn_id, "assistant", "".join(texts))
        self._watching.tell(turn_id, None)


class Dbos:
    """A DBOS workflow of two steps: the model's answer, and its row. Texts from memory, or from a durable stream.

    A turn that is cut goes on with the step that it was in, when its process starts again.
    """

    def __init__(self, *, keeps_texts: bool) -> None:
        from dbos import DBOS, SetWorkflowID

        self._dbos, self._with_id = DBOS, SetWorkflowID
        self._conversations, self._watching = Conversations(), Watching()
        self._keeps_texts = keeps_texts
        DBOS(
            config={
                "name": "peer",
                "system_database_url": os.environ["POSTGRES_URL"].replace("postgresql://", "postgresql+psycopg://"),
                "log_level": "WARNING",
                "sys_db_pool_size": 20,
            }
        )

        @DBOS.step()
        async def ask(session_id: str, turn_id: str) -> str:
            return await self._ask(session_id, turn_id)

        @DBOS.step()
        async def store(session_id: str, turn_id: str, content: str) -> None:
            await self._conversations.add(session_id, turn_id, "assistant", content)

        @DBOS.workflow()
        async def turn(session_id: str, turn_id: str) -> None:
            await store(session_id, turn_id, await ask(session_id, turn_id))
            if keeps_texts:
                await DBOS.close_stream_async("texts")
            self._watching.tell(turn_id, None)

        self._turn = turn

    async def open(self) -> None:
        await self._conversations.open()
        await asyncio.to_thread(self._dbos.launch)

    async def start(self, session_id: str, turn_id: str, content: str) -> None:
        await self._conversations.add(session_id, turn_id, "user", content)
        with self._with_id(turn_id):
            await self._dbos.start_workflow_async(self._turn, session_id, turn_id)

    async def texts(self, turn_id: str) -> AsyncIterator[str]:
        if self._keeps_texts:
            async for text in self._dbos.read_stream_async(turn_id, "texts"):
                yield text
            return
        async for text in self._watching.texts(turn_id):
            yield text

    async def _ask(self, session_id: str, turn_id: str) -> str:
        history = await self._conversations.history(session_id)
        texts: list[str] = []
        waiting: list[str] = []
        next_at = 0.0
        async for text in self._conversations.answer(history):
            texts.append(text)
            if not self._keeps_texts:
                self._watching.tell(turn_id, text)
                continue
            waiting.append(text)
            if (now := time.monotonic()) >= next_at:
                await self._dbos.write_stream_async("texts", "".join(waiting))
                waiting.clear()
                next_at = now + _PACE_S
        if waiting:
            await self._dbos.write_stream_async("texts", "".join(waiting))
        return "".join(texts)


class LangGraph:
    """A LangGraph graph of one node with checkpoints in PostgreSQL. Texts from memory.

    A turn that is cut stays where it is until somebody invokes its graph again.
    """

    def __init__(self) -> None:
        self._conversations, self._watching = Conversations(), Watching()
        self._tasks = Tasks()
        self._graph: Any = None

    async def open(self) -> None:
        from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
        from langgraph.config import get_config
        from langgraph.graph import START, StateGraph
        from langgraph.graph.message import add_messages
        from psycopg.rows import dict_row
        from psycopg_pool import AsyncConnectionPool

        await self._conversations.open()
        options = {"autocommit": True, "prepare_threshold": 0, "row_factory": dict_row}
        pool = AsyncConnectionPool(os.environ["POSTGRES_URL"], min_size=4, max_size=16, kwargs=options, open=False)
        await pool.open(wait=True)
        saver = AsyncPostgresSaver(pool)
        await saver.setup()
        State = TypedDict("State", {"messages": Annotated[list[Any], add_messages]})  # noqa: UP013 - of a local import

        async def ask(state: Any) -> dict[str, Any]:
            turn_id = get_config()["configurable"]["turn_id"]
            roles = {"human": "user", "ai": "assistant"}
            history = [{"role": roles[said.type], "content": said.content} for said in state["messages"]]
            texts = []
            async for text in self._conversations.answer(history):
                texts.append(text)
                self._watching.tell(turn_id, text)
            return {"messages": [{"role": "assistant", "content": "".join(texts)}]}

        graph = StateGraph(State)
        graph.add_node("ask", ask)
        graph.add_edge(START, "ask")
        self._graph = graph.compile(checkpointer=saver)

    async def start(self, session_id: str, turn_id: str, content: str) -> None:
        self._tasks.start(self._run(session_id, turn_id, content))

    def texts(self, turn_id: str) -> AsyncIterator[str]:
        return self._watching.texts(turn_id)

    async def _run(self, session_id: str, turn_id: str, content: str) -> None:
        config = {"configurable": {"thread_id": session_id, "turn_id": turn_id}}
        question = {"messages": [{"role": "user", "content": content}]}
        await self._graph.ainvoke(question, config, durability="sync")
        self._watching.tell(turn_id, None)


def engine(name: str) -> Engine:
    """Raises KeyError for an unknown name."""
    engines: dict[str, Callable[[], Engine]] = {
        "none": Plain,
        "dbos": lambda: Dbos(keeps_texts=False),
        "dbos-tokens": lambda: Dbos(keeps_texts=True),
        "langgraph": LangGraph,
    }
    return engines[name]()
