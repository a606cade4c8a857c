"""Polls one queue for one function, as the real extension does: back-off, batches, leases, poison queue.

Invariant: a message is deleted only when the function has returned and its outputs are sent, or when it is in the
poison queue. Whatever ends the host or a worker before that leaves it in the queue, and it comes again.

Source: azure-sdk-for-net, `QueueListener`, `QueueProcessor`, `RandomizedExponentialBackoffStrategy`.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import logging
import random
from typing import Any

from devhost.extensions.contract import Function, FunctionFailed, Host, Metadata
from devhost.queues.options import Encoding, QueueOptions
from devhost.queues.service import Message, Queue, QueueFailed

logger = logging.getLogger("devhost.queues")

_SHORTEST_WAIT_S = 0.1
_JITTER = 0.2


class Backoff:
    """Pauses between polls of an empty queue: doubling, a little at random, up to the longest."""

    def __init__(self, longest_s: float) -> None:
        self._longest_s = longest_s
        self._now_s = 0.0
        self._exponent = 0

    def next_s(self, *, found: bool) -> float:
        """found: whether there was a message since the last pause."""
        if found:
            self._now_s, self._exponent = _SHORTEST_WAIT_S, 1
        elif self._now_s != self._longest_s:
            wanted = _SHORTEST_WAIT_S
            if self._exponent > 0:
                jitter = random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311  # keeps no secret
                wanted += jitter * 2 ** (self._exponent - 1) * _SHORTEST_WAIT_S
            self._exponent += wanted < self._longest_s
            self._now_s = min(wanted, self._longest_s)
        return self._now_s


class Listener:
    """One function's queue. poison: None when it can have none; messages that fail then only wait for their lease."""

    def __init__(
        self,
        host: Host,
        function: Function,
        queue: Queue,
        poison: Queue | None,
        options: QueueOptions,
        *,
        lease_s: int,
    ) -> None:
        """lease_s: how long nobody else gets a message that is in hand; it is renewed."""
        self._host = host
        self._function = function
        self._queue = queue
        self._poison = poison
        self._options = options
        self._lease_s = lease_s
        self._is_binary = str(function.trigger.raw.get("dataType", "")).lower() == "binary"
        self._in_hand: dict[asyncio.Task[None], Message] = {}
        self._polling: asyncio.Task[None] | None = None
        self._fault = ""
        """What the service said last, so that it is logged once."""

    def start(self) -> None:
        self._polling = asyncio.create_task(self._poll(), name=f"queue {self._queue.name}")

    async def stop(self, grace_s: float) -> None:
        """Take no more messages, and let those in hand end; what does not is given back to the queue. Idempotent."""
        polling, self._polling = self._polling, None
        if polling is None:
            return
        polling.cancel()
        await asyncio.gather(polling, return_exceptions=True)
        if self._in_hand:
            await asyncio.wait(set(self._in_hand), timeout=grace_s)
        cut = dict(self._in_hand)
        for task in cut:
            task.cancel()
        await asyncio.gather(*cut, return_exceptions=True)
        for message in cut.values():
            await self._settle(self._queue.update(message, invisible_s=0))

    async def _poll(self) -> None:
        backoff, found, exists = Backoff(self._options.max_polling_s), False, False
        while True:
            messages: list[Message] = []
            try:
                exists = exists or await self._queue.exists()
                if exists:
                    messages = await self._queue.receive(self._options.batch_size, invisible_s=self._lease_s)
                self._fault = ""
            except QueueFailed as failed:
                exists = False
                self._tell(str(failed))
            for message in messages:
                task = asyncio.create_task(self._process(message), name=f"queue {self._queue.name} {message.id}")
                self._in_hand[task] = message
                task.add_done_callback(self._ended)
            if messages:
                found = True
                while len(self._in_hand) > self._options.new_batch_threshold:
                    await asyncio.wait(set(self._in_hand), return_when=asyncio.FIRST_COMPLETED)
            else:
                await asyncio.sleep(backoff.next_s(found=found))
                found = False

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._in_hand.pop(task, None)
        if not task.cancelled() and (failure := task.exception()) is not None:
            logger.error("a message of queue %s was left: %r", self._queue.name, failure)

    def _tell(self, fault: str) -> None:
        if fault != self._fault:
            logger.warning("queue %s cannot be read, and is tried again: %s", self._queue.name, fault)
        self._fault = fault

    async def _process(self, message: Message) -> None:
        options = self._options
        if message.dequeue_count > options.max_dequeue_count and self._poison is not None:
            await self._give_up(message, f"it came more than {options.max_dequeue_count} times")
            return
        try:
            body = decoded(message.text, options.encoding)
        except ValueError as exc:
            await self._give_up(message, str(exc))
            return
        if await self._run(message, body):
            await self._settle(self._queue.delete(message))
        elif self._poison is None:
            logger.warning("message %s of queue %s failed and has no poison queue", message.id, self._queue.name)
        elif message.dequeue_count >= options.max_dequeue_count:
            await self._give_up(message, f"it failed {message.dequeue_count} times")
        else:
            await self._settle(self._queue.update(message, invisible_s=options.visibility_s))

    async def _run(self, message: Message, body: bytes) -> bool:
        """Call the function. Whether it succeeded."""
        over = asyncio.Event()
        renewing = asyncio.create_task(self._renew(message, over), name=f"lease {message.id}")
        text = body.decode("utf-8", "replace")
        try:
            await self._host.invoke(
                self._function, body if self._is_binary else text, metadata=metadata_of(message, text)
            )
        except FunctionFailed:
            return False  # the dispatcher has logged it
        finally:
            # Not cancelled: an update whose answer is lost would leave us without the receipt that deletes it.
            over.set()
            await renewing
        return True

    async def _renew(self, message: Message, over: asyncio.Event) -> None:
        while True:
            try:
                async with asyncio.timeout(self._lease_s / 2):
                    await over.wait()
                return
            except TimeoutError:
                await self._settle(self._queue.update(message, invisible_s=self._lease_s))

    async def _give_up(self, message: Message, why: str) -> None:
        if self._poison is None:
            logger.warning("message %s of queue %s is left: %s", message.id, self._queue.name, why)
            return
        logger.warning("message %s is moved to the queue %s: %s", message.id, self._poison.name, why)
        await self._poison.send(message.text)
        await self._settle(self._queue.delete(message))

    async def _settle(self, call: Any) -> None:
        """What fails here was taken over by another, or is done again when the message comes again."""
        try:
            await call
        except QueueFailed as failed:
            logger.debug("queue %s: %s", self._queue.name, failed)


def decoded(text: str, encoding: Encoding) -> bytes:
    """The body of a message. Raises ValueError when it is not encoded as it should be."""
    if encoding is Encoding.NONE:
        return text.encode()
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError('it is not base64 (messageEncoding "none" of host.json takes it as it is)') from None


def encoded(body: bytes, encoding: Encoding) -> str:
    """The text that is stored for a body. Raises ValueError when bytes that are no text are to be sent as they are."""
    return body.decode() if encoding is Encoding.NONE else base64.b64encode(body).decode()


def metadata_of(message: Message, text: str) -> Metadata:
    """What the function is told beside the body.

    As in Azure, the fields of a body that is a JSON object are in it, too, and win over the message's own: a body with
    an `id` changes the message's `id`. Source: azure-functions-host, `Utility.ApplyBindingData`.
    """
    told: dict[str, tuple[str, Any]] = {
        "QueueTrigger": ("string", text),
        "DequeueCount": ("int", message.dequeue_count),
        "ExpirationTime": ("json", json.dumps(message.expires_at.isoformat())),
        "Id": ("string", message.id),
        "InsertionTime": ("json", json.dumps(message.inserted_at.isoformat())),
        "NextVisibleTime": ("json", json.dumps(message.next_visible_at.isoformat())),
        "PopReceipt": ("string", message.pop_receipt),
    }
    own: dict[str, str] = {name.lower(): name for name in told}
    try:
        body = json.loads(text, parse_int=str, parse_float=str)
    except (ValueError, RecursionError):
        return told
    fields: dict[str, Any] = body if isinstance(body, dict) else {}
    for name, value in fields.items():
        if isinstance(value, dict):
            told[own.get(name.lower(), name)] = ("json", json.dumps(value))
        elif value is not None and not isinstance(value, list):
            told[own.get(name.lower(), name)] = ("string", str(value))
    return told
