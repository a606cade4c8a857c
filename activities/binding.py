"""The SignalR output binding that activities (and triggers) send their events through."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import azure.durable_functions as df
import azure.functions as func

from shared.adapters.azure.signalr import HUB

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
