"""What must hold after everything has healed, whatever failed: each promise is one function over the evidence.

Invariant: a function says nothing when its promise was kept, and one line for each way in which it was not. None
is weakened by a fault that happened, except where the promise itself names it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import orjson

from devhost.model.scripts.script import filler
from devtools.chaos.history import Operation, Outcome
from devtools.chaos.readers import Frames, Heard
from devtools.chaos.schedule import Target
from devtools.chaos.users import ENDED, StreamRead, Turned

MEMORY_LIMIT_MIB = 1_024
"""Half of what an instance has (`infra/`)."""
_NOT_RUN = ("before this call ran", "it was not run", "needs an approval", "needs a person's approval")
"""Words by which a model is told that a call has had no effect."""


class TurnRow(NamedTuple):
    session_id: str
    status: str


class MessageRow(NamedTuple):
    """step: 0 is the user's. calls: whether the model called tools."""

    session_id: str
    turn_id: str | None
    role: str
    step: int
    content: str
    status: str
    calls: bool = False


class CallRow(NamedTuple):
    """told: what the model reads of it."""

    session_id: str
    turn_id: str
    is_send: bool
    status: str
    has_ended: bool
    told: str
    approval: str | None


class Trail(NamedTuple):
    """problems: of its verification. actions: of its lines."""

    verified: bool
    problems: tuple[str, ...]


@dataclass
class Evidence:
    """All that is known at the end. Rows by id; uploads: id to whether its bytes are those that were sent."""

    operations: Sequence[Operation] = ()
    sessions: Mapping[str, str] = field(default_factory=dict)
    """Name by id; forks have none of their own."""
    turns: Mapping[str, TurnRow] = field(default_factory=dict)
    messages: Mapping[str, MessageRow] = field(default_factory=dict)
    calls: Mapping[str, CallRow] = field(default_factory=dict)
    approvals: Mapping[str, str] = field(default_factory=dict)
    """Status by id."""
    effects: Mapping[str, int] = field(default_factory=dict)
    """By idempotency key, which is the call's id."""
    heard: Sequence[Heard] = ()
    lost: frozenset[str] = frozenset()
    """Sessions whose log says that it has lost events."""
    streams: Sequence[StreamRead] = ()
    turned: Sequence[Turned] = ()
    uploads: Mapping[str, bool] = field(default_factory=dict)
    upload_sessions: Mapping[str, str] = field(default_factory=dict)
    trails: Mapping[str, Trail] = field(default_factory=dict)
    left_over: Sequence[str] = ()
    """Orchestrations that still run."""
    deaf: Sequence[str] = ()
    deaths: Sequence[str] = ()
    peak_mib: float = 0.0
    struck: frozenset[Target] = frozenset()

    def of(self, *kinds: str) -> Iterator[Operation]:
        return (operation for operation in self.operations if operation.kind in kinds)

    @property
    def to_be_deleted(self) -> set[str]:
        """Sessions whose deletion was asked for, with whatever outcome."""
        return {operation.key for operation in self.of("delete")}


type Violations = Iterator[str]


def nothing_confirmed_is_lost(seen: Evidence) -> Violations:
    """What the app has confirmed is there: sessions, messages, turns, forks, files."""
    gone = seen.to_be_deleted
    for op in seen.operations:
        if op.outcome is not Outcome.OK:
            continue
        if op.kind in {"create", "fork"} and op.detail["id"] not in {*seen.sessions, *gone}:
            yield f"{op.kind} {op.key}: session {op.detail['id']} is not there"
        if op.kind in {"post", "regenerate"} and op.detail["session_id"] not in gone:
            if op.detail["turn_id"] not in seen.turns:
                yield f"{op.kind} {op.key}: turn {op.detail['turn_id']} is not there"
            if op.detail["message_id"] not in seen.messages:
                yield f"{op.kind} {op.key}: message {op.detail['message_id']} is not there"
    for upload, same in seen.uploads.items():
        if not same and seen.upload_sessions[upload] not in gone:
            yield f"file {upload} is not there as it was sent"


def nothing_is_done_twice(seen: Evidence) -> Violations:
    """A request that is repeated with its key has one result."""
    made: dict[tuple[str, str], set[str]] = defaultdict(set)
    for op in seen.operations:
        if op.outcome is Outcome.OK and op.kind in {"create", "post", "regenerate"}:
            made[op.kind, op.key].add(str(op.detail.get("turn_id") or op.detail["id"]))
    for (kind, key), results in made.items():
        if len(results) > 1:
            yield f"{kind} {key} was answered with {len(results)} results: {sorted(results)}"
    for name, count in Counter(filter(None, seen.sessions.values())).items():
        if count > 1:
            yield f"session {name} was made {count} times"
    asked: dict[str, set[str]] = defaultdict(set)
    for op in seen.of("post"):
        if op.outcome is not Outcome.FAIL:
            asked[str(op.detail["session_id"])].add(op.key)
    stored: dict[str, int] = defaultdict(int)
    for message in seen.messages.values():
        stored[message.session_id] += message.role == "user"
    for session_id, keys in asked.items():
        if stored[session_id] > len(keys):
            yield f"session {session_id} has {stored[session_id]} messages of {len(keys)} that were posted"


def every_turn_ends(seen: Evidence) -> Violations:
    """No turn, step, call or approval stays open."""
    for turn_id, turn in seen.turns.items():
        if turn.status not in ENDED:
            yield f"turn {turn_id} is {turn.status}"
    for message_id, message in seen.messages.items():
        if message.status == "streaming":
            yield f"message {message_id} of turn {message.turn_id} is streaming"
    for call_id, call in seen.calls.items():
        if not call.has_ended:
            yield f"call {call_id} of turn {call.turn_id} is {call.status}"
    for approval_id, status in seen.approvals.items():
        if status == "pending":
            yield f"approval {approval_id} is pending"
    for instance in seen.left_over:
        yield f"orchestration {instance} runs"


def what_has_ended_stays(seen: Evidence) -> Violations:
    """How a turn ended, as it was told once, does not change."""
    for turn in seen.turned:
        stored = seen.turns.get(turn.turn_id)
        if stored is not None and stored.status != turn.status:
            yield f"turn {turn.turn_id} was {turn.status} and is {stored.status}"


def effects_happen_at_most_once(seen: Evidence) -> Violations:
    """A call that is said to be done had its effect once, one that is said not to have run none, and no call two."""
    for call_id, count in seen.effects.items():
        if count > 1:
            yield f"call {call_id} had its effect {count} times"
    for call_id, call in seen.calls.items():
        count = seen.effects.get(call_id, 0)
        if not call.is_send:
            continue
        if call.status == "completed" and not count:
            yield f"call {call_id} is completed and had no effect"
        if count and (call.status == "rejected" or any(words in call.told for words in _NOT_RUN)):
            yield f"call {call_id} had an effect, and the model is told: {call.told[:200]}"


def decisions_stand(seen: Evidence) -> Violations:
    """One decision is confirmed for an approval, it is the stored one, and nothing happens without."""
    confirmed: dict[str, set[str]] = defaultdict(set)
    for op in seen.of("decide"):
        if op.outcome is Outcome.OK:
            confirmed[op.key].add({"approve": "approved", "reject": "rejected"}[str(op.detail["decision"])])
    for approval_id, decisions in confirmed.items():
        stored = seen.approvals.get(approval_id)
        if len(decisions) > 1:
            yield f"approval {approval_id}: both decisions were confirmed"
        elif stored is not None and {stored} != decisions:
            yield f"approval {approval_id}: {decisions} was confirmed, and it is {stored}"
    for call_id, call in seen.calls.items():
        if call.is_send and seen.effects.get(call_id) and call.approval != "approved":
            yield f"call {call_id} had an effect, and its approval is {call.approval}"


def numbers_are_dense_and_never_twice(seen: Evidence) -> Violations:
    """Event numbers come one after the other, or with a gap that is told and that Redis is the cause of."""
    for heard in seen.heard:
        for problem in heard.problems:
            yield f"session {heard.session_id}: {problem}"
        if heard.gaps and Target.REDIS not in seen.struck:
            yield f"session {heard.session_id}: {heard.gaps} gaps, and Redis was not struck"
    if Target.REDIS not in seen.struck:
        for session_id in sorted(seen.lost):
            yield f"session {session_id}: its log has lost events, and Redis was not struck"


def what_was_streamed_is_stored(seen: Evidence) -> Violations:
    """The stored text is the text that was streamed, byte for byte: of whole answers all, of cut ones at least that."""
    for heard in seen.heard:
        frames = Frames()
        before = 0
        for number in sorted(heard.events):
            if number != before + 1:
                frames.skip()
            before = number
            envelope = heard.events[number]
            if envelope["type"] == "stream.chunk" and envelope["data"]["frame"]["type"] != "error":
                frames.take(envelope["data"]["frame"], envelope["message_id"])
        for message_id, text in frames.texts.items():
            stored = seen.messages.get(message_id)
            if stored is None or message_id in frames.has_holes:
                continue
            same = stored.content == text if frames.is_whole[message_id] else stored.content.startswith(text)
            if not same:
                yield f"message {message_id}: {len(text)} characters were streamed, {len(stored.content)} are stored"
    answers: dict[str, set[str]] = defaultdict(set)
    for message_id, message in seen.messages.items():
        if message.role == "assistant" and message.turn_id and message.content:
            answers[message.turn_id].add(message_id)
    for read in seen.streams:
        for message_id in read.holes:
            yield f"turn {read.turn_id}: its stream has a hole in message {message_id}"
        if read.turn_id not in seen.turns:
            continue
        for message_id in answers[read.turn_id] - read.texts.keys():
            yield f"turn {read.turn_id}: its stream leaves out message {message_id}"
        for message_id, text in read.texts.items():
            stored = seen.messages.get(message_id)
            if stored is not None and stored.content != text:
                yield f"message {message_id}: its turn's stream has other text than is stored"


def answers_are_the_models(seen: Evidence) -> Violations:
    """An answer that is completed is what the model said, from the first to the last byte."""
    scripts: dict[str, dict[str, object]] = {}
    for message in seen.messages.values():
        if message.role == "user" and message.turn_id and message.content.startswith("#script "):
            scripts[message.turn_id] = orjson.loads(message.content.partition("\n")[0].removeprefix("#script "))
    for message_id, message in seen.messages.items():
        script = scripts.get(message.turn_id or "")
        if message.role != "assistant" or message.status != "completed" or script is None:
            continue
        tokens = script.get("tokens", 64)
        said = script.get("preamble", "") if message.calls else "".join(filler(int(str(tokens))))
        if message.content != said:
            yield f"message {message_id} is completed, and is not what the model said"


def audit_trails_are_verified(seen: Evidence) -> Violations:
    for session_id, trail in seen.trails.items():
        if not trail.verified:
            yield f"session {session_id}: {'; '.join(trail.problems[:3])}"


def readers_hear_the_end(seen: Evidence) -> Violations:
    """Whoever still reads hears a session's newest event."""
    yield from seen.deaf


def deletions_leave_nothing(seen: Evidence) -> Violations:
    for op in seen.of("delete"):
        if op.outcome is Outcome.OK and op.key in seen.sessions:
            yield f"session {op.key} was deleted and is there"


def requests_are_answered(seen: Evidence) -> Violations:
    """None waits without an end."""
    for op in seen.operations:
        if op.detail.get("why") == TimeoutError.__name__:
            yield f"{op.kind} {op.detail.get('path', op.key)} had no answer in {op.ended_s - op.began_s:.0f} s"


def memory_is_bounded(seen: Evidence) -> Violations:
    if seen.peak_mib > MEMORY_LIMIT_MIB:
        yield f"the host had {seen.peak_mib:.0f} MiB, the limit is {MEMORY_LIMIT_MIB}"


def nobody_dies_by_itself(seen: Evidence) -> Violations:
    yield from seen.deaths


INVARIANTS: tuple[Callable[[Evidence], Violations], ...] = (
    nothing_confirmed_is_lost,
    nothing_is_done_twice,
    every_turn_ends,
    what_has_ended_stays,
    effects_happen_at_most_once,
    decisions_stand,
    numbers_are_dense_and_never_twice,
    what_was_streamed_is_stored,
    answers_are_the_models,
    audit_trails_are_verified,
    readers_hear_the_end,
    deletions_leave_nothing,
    requests_are_answered,
    memory_is_bounded,
    nobody_dies_by_itself,
)


def violations(seen: Evidence) -> dict[str, list[str]]:
    """By the name of the invariant, of those that do not hold."""
    found = {check.__name__: list(check(seen)) for check in INVARIANTS}
    return {name: lines for name, lines in found.items() if lines}
