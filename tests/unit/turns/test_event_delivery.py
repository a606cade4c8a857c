"""Sending an activity's events: once through its binding, and in another way when it is run again."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest

from activities import binding
from shared.sessions.live.groups import group_action
from shared.sessions.live.realtime import DeliveryFailed


class Out:
    value: str | None = None

    def set(self, value: str) -> None:
        self.value = value


class SignalR:
    """Takes messages and group actions, unless it is away."""

    def __init__(self, *, away: bool = False) -> None:
        self.away = away
        self.sent: list[bytes] = []

    async def send(self, messages: Sequence[bytes]) -> None:
        if self.away:
            raise DeliveryFailed("refused")
        self.sent.extend(messages)

    async def change_group(self, action: bytes) -> None:
        await self.send([action])


@pytest.fixture
def signalr(monkeypatch: pytest.MonkeyPatch) -> SignalR:
    service = SignalR()
    monkeypatch.setattr(binding, "services", lambda: SimpleNamespace(sender=service, signalr=service))
    return service


async def test_a_first_run_sends_through_its_binding(signalr: SignalR) -> None:
    out = Out()
    await binding.deliver(cast("Any", out), [b'{"a":1}', b'{"b":2}'], is_repeat=False)
    assert (out.value, signalr.sent) == ('[{"a":1},{"b":2}]', [])


async def test_a_repeated_run_sends_beside_its_binding(signalr: SignalR) -> None:
    out = Out()
    await binding.deliver(cast("Any", out), [b'{"a":1}'], is_repeat=True)
    assert (out.value, signalr.sent) == (None, [b'{"a":1}'])


async def test_a_repeated_run_does_not_fail_with_signalr(signalr: SignalR, caplog: pytest.LogCaptureFixture) -> None:
    signalr.away = True
    await binding.deliver(cast("Any", Out()), [b'{"a":1}'], is_repeat=True)
    [line] = caplog.records
    assert line.levelno == logging.WARNING
    assert "1 events" in line.getMessage()


JOIN = group_action("add", "session-1", connection_id="c1")
LEAVE = group_action("remove", "session-1", user_id="u1")


async def test_groups_change_before_the_answer_and_messages_leave_after_it(signalr: SignalR) -> None:
    out = Out()
    await binding.answer_with(cast("Any", out), [b'{"target":"event"}', JOIN, LEAVE])
    assert (out.value, signalr.sent) == ('[{"target":"event"}]', [JOIN, LEAVE])


async def test_groups_that_cannot_change_now_are_left_to_the_binding_in_order(signalr: SignalR) -> None:
    signalr.away = True
    out = Out()
    await binding.answer_with(cast("Any", out), [JOIN, b'{"target":"event"}', LEAVE])
    assert out.value == b",".join([b"[" + JOIN, b'{"target":"event"}', LEAVE + b"]"]).decode()
