"""The MessagePack protocol, byte by byte."""

from __future__ import annotations

import json
import math
from typing import Any

import aiohttp
import ormsgpack
import pytest

from devhost.signalr.service.messagepack import MESSAGEPACK
from devhost.signalr.service.protocol import ClientMessage, Frame, ProtocolError
from tests.devhost.signalr.signalr_harness import PATIENCE_S, Endpoint

HANDSHAKE = '{"protocol":"messagepack","version":1}\x1e'


def unpacked(frame: Frame) -> list[Any]:
    """The message of a frame that is shorter than 128 bytes."""
    assert isinstance(frame, bytes)
    assert frame[0] == len(frame) - 1
    message: list[Any] = ormsgpack.unpackb(frame[1:])
    return message


def test_messages_are_those_of_the_specification() -> None:
    assert MESSAGEPACK.ping == b"\x02\x91\x06"
    # HubProtocol.md, non-blocking example.
    assert MESSAGEPACK.invocation("method", [42]) == bytes.fromhex("0e960180c0a66d6574686f64912a90")
    assert MESSAGEPACK.close("xyz", allow_reconnect=True) == bytes.fromhex("079307a378797ac3")
    assert unpacked(MESSAGEPACK.close(None, allow_reconnect=False)) == [7, None, False]


@pytest.mark.parametrize(("length", "prefix"), [(127, "7f"), (128, "8001"), (16_383, "ff7f"), (16_384, "808001")])
def test_a_length_takes_seven_bits_of_each_byte_the_lowest_first(length: int, prefix: str) -> None:
    around = len(ormsgpack.packb([1, {}, None, "t", ["x" * 65_536], []])) - 65_536 - 5
    header = 2 if length - around - 2 < 256 else 3
    frame = MESSAGEPACK.invocation("t", ["x" * (length - around - header)])
    assert isinstance(frame, bytes)
    assert frame.hex().startswith(prefix + "96")
    assert len(frame) == length + len(prefix) // 2
    [read] = MESSAGEPACK.read(frame)
    assert read == ClientMessage(1, "t", arguments=["x" * (length - around - header)])


def test_values_that_json_has_and_messagepack_lacks_are_replaced() -> None:
    values = ["\ud83d", "\ud83d\ude00", 1 << 64, -(1 << 63) - 1, [{"\udc00": 1 << 70}], (1 << 64) - 1]
    assert unpacked(MESSAGEPACK.invocation("t", values))[4] == [
        *("\ufffd", "\U0001f600", 2.0**64, -(2.0**63)),
        *([{"\ufffd": 2.0**70}], (1 << 64) - 1),
    ]
    assert math.isclose(unpacked(MESSAGEPACK.invocation("t", [1.5]))[4][0], 1.5)


@pytest.mark.parametrize(
    "data",
    [
        b"\x05\x91\x06",
        b"\xff\xff\xff\xff\xff\xff",
        b"\x80",
        b"\x00",
        b"\x01\xc1",
        b"\x01\x90",
        b"\x02\x91\xa0",
        b"\x01\x06",
        b'{"type":6}\x1e',
        b"\x88\x27" + b"\x91" * 5000,
    ],
)
def test_what_is_no_message_is_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        MESSAGEPACK.read(data)


async def test_a_broken_message_is_answered_in_messagepack_and_closes_the_connection(
    endpoint: Endpoint, http: aiohttp.ClientSession
) -> None:
    info = await endpoint.connection_info({"x-user": "anna"})
    headers = {"Authorization": f"Bearer {info['accessToken']}"}
    async with http.ws_connect(info["url"], headers=headers) as socket:
        await socket.send_bytes(HANDSHAKE.encode() + b"\x02\x91\x06")
        assert await socket.receive_bytes(timeout=PATIENCE_S) == b"{}\x1e"
        await socket.send_bytes(b"\x01\xc1")
        kind, error, may_reconnect = unpacked(await socket.receive_bytes(timeout=PATIENCE_S))
        assert (kind, may_reconnect) == (7, False)
        assert "Protocol error" in error
        assert (await socket.receive(PATIENCE_S)).type is aiohttp.WSMsgType.CLOSE


async def test_clients_of_both_protocols_hear_the_same_message(endpoint: Endpoint, http: aiohttp.ClientSession) -> None:
    info = await endpoint.connection_info({"x-user": "anna"})
    headers = {"Authorization": f"Bearer {info['accessToken']}"}
    async with (
        http.ws_connect(info["url"], headers=headers) as text,
        http.ws_connect(info["url"], headers=headers) as binary,
    ):
        await text.send_str(HANDSHAKE.replace("messagepack", "json"))
        await binary.send_str(HANDSHAKE)
        assert await text.receive_str(timeout=PATIENCE_S) == "{}\x1e"
        assert await binary.receive_bytes(timeout=PATIENCE_S) == b"{}\x1e"
        await endpoint.send({"target": "news", "arguments": [{"a": [None, 1]}]})
        assert await text.receive_str(timeout=PATIENCE_S) == (
            '{"type":1,"target":"news","arguments":[{"a":[null,1]}]}\x1e'
        )
        assert unpacked(await binary.receive_bytes(timeout=PATIENCE_S)) == [1, {}, None, "news", [{"a": [None, 1]}], []]
        # Nested more deeply than MessagePack's writer goes: nobody gets it.
        with pytest.raises(ValueError, match="MessagePack"):
            await endpoint.send({"target": "news", "arguments": [json.loads("[" * 2000 + "]" * 2000)]})
        await endpoint.send({"target": "news", "arguments": ["end"]})
        assert await text.receive_str(timeout=PATIENCE_S) == '{"type":1,"target":"news","arguments":["end"]}\x1e'
