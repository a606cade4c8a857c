"""One orchestration instance while the engine holds it in memory, and the bounded cache of them.

Invariant: the state in memory equals the stored state after all pending commits. Only an idle instance (no
messages, no episode, no pending commit) may leave memory, so loading it again from committed data gives the
same state.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from devhost.durable.replay.ledger import Ledger
from devhost.durable.store import history, jsontext
from devhost.durable.store.history import EventType
from devhost.durable.store.records import InstanceRow, Message, MessageKind, Status
from devhost.durable.store.store import Store

_LONG_TIMERS = '"longRunningTimerIntervalDuration":"3.00:00:00","maximumShortTimerDuration":"6.00:00:00",'


_LONGEST_TRIM = 32
_REPLAY_S_PER_EVENT = 30e-6  # The SDK parses each event's timestamp; measured 25-30 µs per event.
_CHEAP_REPLAY_S = 0.005
_LONGEST_PAUSE_S = 0.25


@dataclass(slots=True, eq=False)
class Instance:
    """chunks: encoded events of finished episodes, as the app gets them; one chunk is one history row."""

    row: InstanceRow
    ledger: Ledger = field(default_factory=Ledger)
    chunks: list[str] = field(default_factory=list)
    size: int = 0
    event_count: int = 0
    inbox: deque[Message] = field(default_factory=deque)
    is_busy: bool = False
    """An episode is running, waiting for a slot or committing."""
    is_over: bool = False
    """Ended or replaced; it accepts no more messages."""
    known: frozenset[int] = frozenset()
    """Messages read from the store when this object was rebuilt after a failed commit."""
    shown: int = 0
    """Queued messages that the orchestrator's code has seen while suspended."""
    tail: str = ""

    @property
    def is_suspended(self) -> bool:
        return self.row.status is Status.SUSPENDED

    @property
    def will_be_suspended(self) -> bool:
        """Whether it is suspended once every queued message is processed."""
        wanted = self.is_suspended
        for message in self.inbox:
            if message.kind is MessageKind.SUSPEND:
                wanted = True
            elif message.kind is MessageKind.RESUME:
                wanted = False
        return wanted

    @property
    def has_work(self) -> bool:
        if not self.inbox or self.is_over:
            return False
        if not self.is_suspended:
            # A generation begins with its START, even if other messages are already queued.
            has_begun = bool(self.chunks) or self.inbox[0].kind is MessageKind.START
            return has_begun or any(message.kind is MessageKind.TERMINATE for message in self.inbox)
        return any(message.kind in (MessageKind.RESUME, MessageKind.TERMINATE) for message in self.inbox)

    @property
    def pause_s(self) -> float:
        """How long to collect more answers before the next episode.

        Replay cost grows with the history, so a wide fan-out with one replay per answer would take quadratic
        time. While more answers are due, an instance replays at most half of the time.
        """
        replay_s = self.event_count * _REPLAY_S_PER_EVENT
        if replay_s < _CHEAP_REPLAY_S:
            return 0.0
        due = sum(kind is not EventType.TIMER_CREATED for kind in self.ledger.open.values())
        return min(replay_s, _LONGEST_PAUSE_S) if due > len(self.inbox) else 0.0

    def take_in(self, message: Message) -> None:
        """Queue a stored message in order of arrival, however late its commit was reported."""
        if message.seq in self.known:
            return
        self.inbox.append(message)
        index = len(self.inbox) - 1
        while index > 0 and _order(self.inbox[index - 1]) > _order(message):
            self.inbox[index], self.inbox[index - 1] = self.inbox[index - 1], self.inbox[index]
            index -= 1

    def append(self, events: list[str]) -> tuple[int, int, str]:
        """Add the encoded events of an episode as one chunk; returns its history row, which has the engine's notes."""
        stored = ",".join(events)
        chunk = history.for_the_app(stored)
        self.chunks.append(chunk)
        self.size += len(chunk)
        self.event_count += len(events)
        return (self.row.gen, len(self.chunks) - 1, stored)

    def payload(self, new_events: list[str], *, splits_long_timers: bool, http_poll_ms: int) -> str:
        """The orchestrator trigger's text: the whole history and the instance's properties."""
        if not self.tail:
            row = self.row
            parent = jsontext.dumps(row.parent.instance_id if row.parent else None)
            source = jsontext.dumps(history.source_of(self.chunks[0] if self.chunks else ",".join(new_events)))
            # The raw input is a JSON text, so inlining it here is "parsed one level", as the SDK expects.
            # The protocol misspells the last key.
            self.tail = (
                f'],"input":{row.input or "null"},"instanceId":{jsontext.dumps(row.instance_id)},'
                f'"parentInstanceId":{parent},"sourceInstanceId":{source},'
                f'{_LONG_TIMERS if splits_long_timers else ""}"upperSchemaVersion":1,'
                f'"upperSchemaVersionNew":3,"defaultHttpAsyncRequestSleepTimeMillseconds":{http_poll_ms}}}'
            )
        return "".join(
            [
                '{"isReplaying":true,"history":[' if self.chunks else '{"isReplaying":false,"history":[',
                ",".join(self.chunks),
                "," if self.chunks else "",
                history.as_new(new_events),
                self.tail,
            ]
        )

    def next_generation(self, *, gen: int, execution_id: str, input_text: str, at_us: int) -> None:
        """Start over with a new input (continue-as-new); created time and parent stay."""
        self.row = replace(
            self.row,
            gen=gen,
            execution_id=execution_id,
            input=input_text,
            status=Status.RUNNING,
            updated_us=at_us,
        )
        self.ledger = Ledger()
        self.chunks = []
        self.size = 0
        self.event_count = 0
        self.tail = ""


def _order(message: Message) -> tuple[bool, int]:
    # The START of a continued generation is younger than the events it inherits, but comes first.
    return (message.kind is not MessageKind.START, message.seq)


def start_message(
    row: InstanceRow,
    seq: int,
    at_us: int,
    *,
    parent_name: str = "",
    continues: bool = False,
    carried: Sequence[str] = (),
    generation: int = 0,
    source_id: str | None = None,
) -> Message:
    """The message that begins a generation.

    parent_name: the orchestrator of the parent. continues: the generation before continued as new. carried: encoded
    events that it handed on. generation, source_id: as in `history.execution_started`, for what a client starts.
    """
    parent = row.parent
    event = history.execution_started(
        at_us,
        name=row.name,
        version=row.version,
        input_text=row.input,
        instance_id=row.instance_id,
        execution_id=row.execution_id,
        parent=None
        if parent is None
        else history.parent_instance(
            name=parent_name,
            instance_id=parent.instance_id,
            execution_id=parent.execution_id,
            task_id=parent.task_id,
        ),
        generation=None if continues or parent is not None else generation,
        source_id=source_id,
    )
    if continues:
        # The extension ends the episode of the old generation in the history of the new one.
        event = ",".join([event, *carried, history.orchestrator_completed(at_us, is_played=True)])
    return Message(
        seq,
        row.instance_id,
        MessageKind.START,
        execution_id=row.execution_id,
        event_type=EventType.CONTINUE_AS_NEW if continues else EventType.EXECUTION_STARTED,
        event=event,
    )


def loaded_instance(row: InstanceRow, stored: list[str]) -> Instance:
    """An instance from its row and its history rows."""
    chunks = [history.for_the_app(chunk) for chunk in stored]
    return Instance(
        row,
        Ledger.rebuild(stored),
        chunks,
        size=sum(len(chunk) for chunk in chunks),
        event_count=sum(chunk.count('"EventType":') for chunk in chunks),
    )


class InstanceCache:
    """Live instances by id, least recently used first. Idle ones are dropped beyond a budget of characters."""

    def __init__(self, store: Store, *, budget_chars: int = 64 * 1024 * 1024, budget_count: int = 5000) -> None:
        self._store = store
        self._budget_chars = budget_chars
        self._budget_count = budget_count
        self._live: OrderedDict[str, Instance] = OrderedDict()
        self._chars = 0

    def get(self, instance_id: str) -> Instance | None:
        """The live instance of an id, loaded if necessary; None when there is none or it has ended."""
        found = self._live.get(instance_id)
        if found is not None:
            self._live.move_to_end(instance_id)
            return found
        row = self._store.instance(instance_id)
        if row is None or row.status not in (Status.PENDING, Status.RUNNING, Status.SUSPENDED):
            return None
        loaded = loaded_instance(row, self._store.history(row.gen))
        self.add(loaded)
        return loaded

    def peek(self, instance_id: str) -> Instance | None:
        """The live instance if it is in memory."""
        return self._live.get(instance_id)

    def add(self, instance: Instance) -> None:
        self._live[instance.row.instance_id] = instance
        self._live.move_to_end(instance.row.instance_id)
        self._chars += instance.size

    def grew(self, chars: int) -> None:
        """Account for text appended to (or, negative, released by) a live instance."""
        self._chars += chars

    def forget(self, instance: Instance) -> None:
        """Drop an instance that ended or whose state in memory is unreliable."""
        if self._live.get(instance.row.instance_id) is instance:
            del self._live[instance.row.instance_id]
            self._chars -= instance.size

    def trim(self) -> None:
        """Drop idle instances, least recently used first, until the budget holds or too many are busy."""
        for _ in range(_LONGEST_TRIM):
            if self._chars <= self._budget_chars and len(self._live) <= self._budget_count:
                return
            oldest = next(iter(self._live.values()))
            if oldest.is_busy or oldest.inbox:
                self._live.move_to_end(oldest.row.instance_id)
            else:
                self.forget(oldest)
