"""What of host.json, settings and bindings is taken, and what is refused by name."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from devhost.extensions.contract import Binding, Direction, Function, HostContext, HostError
from devhost.queues.account import account_of, parse_connection_string
from devhost.queues.extension import LEASE_SETTING, QueuesExtension
from devhost.queues.listener import Backoff, decoded, encoded
from devhost.queues.options import Encoding, queue_options

KEY = "QUJD"
STORE = f"DefaultEndpointsProtocol=https;AccountName=acc;AccountKey={KEY}"


def options(**queues: object) -> Any:
    return queue_options({"extensions": {"queues": queues}})


def test_defaults_are_those_of_the_real_extension_on_a_developers_machine() -> None:
    found = queue_options({})
    assert (found.batch_size, found.max_polling_s, found.visibility_s) == (16, 2.0, 0)
    assert (found.max_dequeue_count, found.encoding) == (5, Encoding.BASE64)
    assert found.new_batch_threshold % 8 == 0


def test_keys_are_read_whatever_their_case() -> None:
    found = options(
        BatchSize=32,
        newbatchthreshold=0,
        maxPollingInterval="00:00:00.5",
        visibilityTimeout="00:01:30",
        maxDequeueCount=7,
        messageEncoding="None",
    )
    assert (found.batch_size, found.new_batch_threshold, found.max_polling_s) == (32, 0, 0.5)
    assert (found.visibility_s, found.max_dequeue_count, found.encoding) == (90, 7, Encoding.NONE)


@pytest.mark.parametrize(
    ("queues", "named"),
    [
        ({"batchSize": 33}, "batchSize"),
        ({"batchSize": 0}, "batchSize"),
        ({"batchSize": True}, "batchSize"),
        ({"newBatchThreshold": -1}, "newBatchThreshold"),
        ({"maxDequeueCount": 0}, "maxDequeueCount"),
        ({"maxPollingInterval": "00:00:00.05"}, "maxPollingInterval"),
        ({"maxPollingInterval": "soon"}, "maxPollingInterval"),
        ({"visibilityTimeout": "-1"}, "visibilityTimeout"),
        ({"messageEncoding": "utf-16"}, "messageEncoding"),
        ({"batchsizes": 3}, "batchsizes"),
    ],
)
def test_what_has_no_meaning_is_named(queues: dict[str, object], named: str) -> None:
    with pytest.raises(HostError, match=named):
        options(**queues)


def test_a_connection_is_looked_for_as_in_azure() -> None:
    settings = {"AzureWebJobsOrders": STORE, "Orders": STORE.replace("acc", "other")}
    assert account_of(settings, "Orders", "here").url == "https://acc.queue.core.windows.net"
    assert account_of({"AzureWebJobsStorage": STORE}, "", "here").name == "acc"
    own = parse_connection_string(f"{STORE};QueueEndpoint=http://127.0.0.1:1/acc/", setting="S")
    assert own.url == "http://127.0.0.1:1/acc"
    assert parse_connection_string("UseDevelopmentStorage=true", setting="S").name == "devstoreaccount1"
    assert KEY not in repr(own)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({}, "Orders is empty"),
        ({"Orders__queueServiceUri": "https://acc.queue.core.windows.net"}, "identity"),
        ({"Orders": "AccountName=acc;SharedAccessSignature=sv"}, "shared access signature"),
        ({"Orders": "AccountName=acc;AccountKey=%%%"}, "no connection string"),
        ({"Orders": "a password"}, "no connection string"),
    ],
)
def test_a_connection_that_cannot_be_used_is_named_and_not_shown(settings: dict[str, str], named: str) -> None:
    with pytest.raises(HostError, match=named) as refused:
        account_of(settings, "Orders", "function 'f'")
    assert "password" not in str(refused.value)


@pytest.mark.parametrize(
    ("binding", "named"),
    [
        ({"queueName": "A_b"}, "no name of a queue"),
        ({"queueName": "ab"}, "no name of a queue"),
        ({"queueName": "a--b"}, "no name of a queue"),
        ({"queueName": "{id}"}, "expression"),
        ({"queueName": "abc", "scale": 3}, "no property scale"),
    ],
)
def test_a_binding_that_cannot_be_served_is_named(binding: dict[str, Any], named: str) -> None:
    trigger = Binding("queueTrigger", "m", Direction.IN, binding)
    function = Function("takes", "1", trigger, (), ())

    context = HostContext(Path(), Path(), "", {}, {"AzureWebJobsStorage": STORE}, (function,))
    with pytest.raises(HostError, match=rf"'takes'.*'m'.*{named}"):
        QueuesExtension().bind(SimpleNamespace(context=context))  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["0", "601", "soon", "1.5"])
def test_a_lease_that_cannot_be_is_named(text: str) -> None:
    context = HostContext(Path(), Path(), "", {}, {LEASE_SETTING: text}, ())
    with pytest.raises(HostError, match=LEASE_SETTING):
        QueuesExtension().bind(SimpleNamespace(context=context))  # type: ignore[arg-type]


def test_an_empty_queue_is_asked_less_and_less_often() -> None:
    backoff = Backoff(2.0)
    pauses = [backoff.next_s(found=False) for _ in range(12)]
    assert pauses[0] == 0.1
    assert all(one <= other for one, other in pairwise(pauses))
    assert pauses[-1] == 2.0
    assert backoff.next_s(found=True) == 0.1


@pytest.mark.parametrize("encoding", list(Encoding))
def test_what_is_sent_is_what_is_received(encoding: Encoding) -> None:
    assert decoded(encoded("ž".encode(), encoding), encoding) == "ž".encode()


def test_bytes_that_are_no_text_are_not_sent_as_they_are() -> None:
    with pytest.raises(ValueError, match="utf-8"):
        encoded(b"\xff", Encoding.NONE)
