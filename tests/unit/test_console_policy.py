"""Where the console's page may connect to."""

from __future__ import annotations

import pytest

from triggers.console import _signalr_origins


@pytest.mark.parametrize(
    ("connection_string", "origins"),
    [
        (None, []),
        ("", []),
        (
            "Endpoint=https://one.service.signalr.net;AccessKey=a;Version=1.0;",
            ["https://one.service.signalr.net", "wss://one.service.signalr.net"],
        ),
        ("AccessKey=k;endpoint=http://127.0.0.1:7071/;", ["http://127.0.0.1:7071", "ws://127.0.0.1:7071"]),
        (
            "Endpoint=https://one.service.signalr.net;AuthType=azure.msi",
            ["https://one.service.signalr.net", "wss://one.service.signalr.net"],
        ),
    ],
)
def test_the_page_may_reach_the_signalr_service_and_nothing_more(
    connection_string: str | None, origins: list[str]
) -> None:
    assert _signalr_origins(connection_string) == origins
