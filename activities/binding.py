"""How activities (and triggers) send their events: through a SignalR output binding.

A binding that cannot send fails its activity, although the activity has done its work, and Durable Functions runs it
again. So whatever was run before sends in another way, which fails nothing: who misses an event reads it from the log.

Invariant: SignalR that is away costs an activity one more run, and no turn.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any

import azure.durable_functions as df
import azure.functions as func

from shared.adapters.azure.signalr import HUB
from shared.composition.services import services
from shared.sessions.live.groups import is_group_action
from shared.sessions.live.realtime import DeliveryFailed

log = logging.getLogger(__name__)

EVENTS = "events"
"""The binding's parameter name, the same in every function that sends."""


def sends_events(bp: df.Blueprint) -> Callable[[Any], Any]:
    """Give a function the output parameter `events`. Its messages are sent when the function returns."""
    decorate: Callable[[Any], Any] = bp.generic_output_binding(
        arg_name=EVENTS, type="signalR", hub_name=HUB, connection_string_setting="AzureSignalRConnectionString"
    )
    return decorate


def send(events: func.Out[str], messages: Sequence[bytes]) -> None:
    """Hand encoded SignalR messages to the output binding, in order."""
    if messages:
        events.set((b"[" + b",".join(messages) + b"]").decode())


async def answer_with(events: func.Out[str], messages: Sequence[bytes]) -> None:
    """Send what a request leads to. Who joins or leaves a group does so before the request is answered.

    Azure sends outputs after the answer; whoever has the answer shall hear everything from then on, or nothing. The
    binding does what could not be done now.
    """
    actions = [message for message in messages if is_group_action(message)]
    if not actions:
        send(events, messages)
        return
    done = await asyncio.gather(*(change_group(action) for action in actions))
    left = {action for action, is_done in zip(actions, done, strict=True) if not is_done}
    send(events, [message for message in messages if message in left or not is_group_action(message)])


async def change_group(action: bytes) -> bool:
    """Do a group action now. Whether it was accepted."""
    try:
        await services().signalr.change_group(action)
    except DeliveryFailed as exc:
        log.info("a change of a SignalR group is left to the output binding: %s", exc)
        return False
    return True


async def deliver(events: func.Out[str], messages: Sequence[bytes], *, is_repeat: bool) -> None:
    """Send an activity's messages. is_repeat: it, or what it does, was run before."""
    if not is_repeat:
        send(events, messages)
    elif messages:
        try:
            await services().sender.send(messages)
        except DeliveryFailed as exc:
            log.warning("%d events of a repeated activity were not delivered live: %s", len(messages), exc)
