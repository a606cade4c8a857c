"""What users do: stories, an endless sequence that is a pure function of seed and user.

Every message is a script for the offline model (`devhost/model/README.md`), and its `key` is the story's own mark: by
it a message is found again in the database.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from random import Random
from typing import Any

import orjson


class Kind(StrEnum):
    STREAM = "stream"  # an answer in text, some with reasoning
    MODEL_FAILS = "model_fails"  # 429, 500, cut, silent, an error in mid-stream
    READ = "read"  # tools that need nobody: a calculation, a page
    SEND = "send"  # a request that a person approves, rejects, or two decide at once
    CANCEL = "cancel"
    INTERRUPT = "interrupt"
    SUSPEND = "suspend"  # and resume
    REGENERATE = "regenerate"
    FORK = "fork"
    FILE = "file"  # an attachment, read by a tool


class Vote(StrEnum):
    APPROVE = "approve"
    REJECT = "reject"
    TWICE = "twice"  # the same decision again
    AT_ONCE = "at_once"  # one approves while another rejects


_ODDS = {
    Kind.STREAM: 5,
    Kind.MODEL_FAILS: 2,
    Kind.READ: 2,
    Kind.SEND: 8,
    Kind.CANCEL: 2,
    Kind.INTERRUPT: 2,
    Kind.SUSPEND: 2,
    Kind.REGENERATE: 1,
    Kind.FORK: 1,
    Kind.FILE: 1,
}
_FAILURES: tuple[dict[str, Any], ...] = (
    {"status": 429, "retry_after": 1},
    {"status": 500},
    {"status": 503, "retry_after_ms": 200},
    {"cut_after": 0},
    {"cut_after": 12},
    {"error_after": 7},
    {"hang": True},
    {"hang_after": 9},
)
_PER_SESSION = (2, 6)
_DELETED = 0.25


@dataclass(frozen=True, slots=True)
class Story:
    """One thing that a user does in a session.

    content: the message. after_s: how long the user waits before the second thing (cancel, suspend, ...); for_s: for
    how long a suspension lasts. votes: how each approval is decided. opens: begin a session for it. closes: what the
    user deletes afterwards is the session.
    """

    kind: Kind
    mark: str
    content: str
    votes: tuple[Vote, ...]
    after_s: float
    for_s: float
    opens: bool
    closes: bool


def stories(seed: int, user: int, *, tool_url: str) -> Iterator[Story]:
    """tool_url: where tools send to, without a slash at its end."""
    random = Random(f"user {seed} {user}")  # noqa: S311  # it is to be repeated
    number = 0
    while True:
        count = random.randint(*_PER_SESSION)
        closes = random.random() < _DELETED
        for place in range(count):
            number += 1
            yield _story(random, f"u{user}-{number}", tool_url, opens=not place, closes=closes and place == count - 1)


def _story(random: Random, mark: str, tool_url: str, *, opens: bool, closes: bool) -> Story:
    [kind] = random.choices(list(_ODDS), list(_ODDS.values()))
    script: dict[str, Any] = {"key": mark, "tokens": random.randint(5, 120), "token_ms": random.choice([0, 5, 15])}
    if random.random() < 0.3:
        script["reasoning"] = "It is asked for.\n\nIt is done."
    votes: tuple[Vote, ...] = ()
    match kind:
        case Kind.MODEL_FAILS:
            script["fail"] = [random.choice(_FAILURES) for _ in range(random.randint(1, 2))]
        case Kind.READ:
            calls = [_call("calculate", expression="6 * 7"), _call("fetch_url", url=f"{tool_url}/page/{mark}")]
            script["tool_calls"] = [random.sample(calls, random.randint(1, 2))]
        case Kind.SEND:
            steps = random.randint(1, 2)
            script["tool_calls"] = [
                [_send(random, f"{tool_url}/effect/{mark}/{step}/{place}") for place in range(random.randint(1, 2))]
                for step in range(steps)
            ]
            script["preamble"] = "First this. "
            votes = tuple(random.choice(list(Vote)) for _ in range(sum(map(len, script["tool_calls"]))))
        case Kind.CANCEL | Kind.INTERRUPT | Kind.SUSPEND:
            script |= {"tokens": random.randint(60, 200), "token_ms": 15}
            if random.random() < 0.4:
                script |= {"tool_calls": [[_send(random, f"{tool_url}/effect/{mark}/0/0")]], "preamble": "First this. "}
                votes = (random.choice(list(Vote)),)
    content = f"#script {orjson.dumps(script).decode()}"
    after_s = random.choice([0.0, random.uniform(0, 2)])
    return Story(kind, mark, content, votes, after_s, random.uniform(0.2, 3), opens, closes)


def _call(name: str, **arguments: str) -> dict[str, Any]:
    return {"name": name, "arguments": arguments}


def _send(random: Random, url: str) -> dict[str, Any]:
    """Most targets take their time, so that faults meet calls that run."""
    return _call("http_request", method="POST", url=f"{url}?after_ms={random.choice([0, 500, 3_000])}", body="{}")
