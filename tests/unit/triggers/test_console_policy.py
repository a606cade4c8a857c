"""Where the console's page may connect to."""

from __future__ import annotations

import pytest

from shared.settings import Settings
from triggers.site.console import _not_built, page_policy

SERVICE = "https://one.service.signalr.net wss://one.service.signalr.net"
KEYED, IDENTITY = "AzureSignalRConnectionString", "AzureSignalRConnectionString__serviceUri"


def _settings(**signalr: str) -> Settings:
    """As far as the page's policy reads them."""
    names = {KEYED: "signalr_connection_string", IDENTITY: "signalr_service_uri"}
    given = {field: signalr.get(alias) for alias, field in names.items()}
    return Settings.model_construct(**given)


@pytest.mark.parametrize(
    ("signalr", "origins"),
    [
        ({}, ""),
        ({KEYED: ""}, ""),
        ({KEYED: "Endpoint=https://one.service.signalr.net;AccessKey=a;Version=1.0;"}, SERVICE),
        ({KEYED: "AccessKey=k;endpoint=http://127.0.0.1:7071/;"}, "http://127.0.0.1:7071 ws://127.0.0.1:7071"),
        ({KEYED: "Endpoint=https://one.service.signalr.net;AuthType=azure.msi"}, SERVICE),
        ({IDENTITY: "https://one.service.signalr.net"}, SERVICE),
    ],
)
def test_the_page_may_reach_the_signalr_service_and_nothing_more(signalr: dict[str, str], origins: str) -> None:
    policy = page_policy(_settings(**signalr))

    assert f"connect-src {' '.join(['self', origins]).strip()};".replace("self", "'self'") in policy


def test_a_console_that_is_not_built_is_a_page_that_says_what_to_do() -> None:
    page = _not_built({})

    assert (page.status_code, page.headers["content-type"]) == (503, "text/html; charset=utf-8")
    assert "NPM_CONFIG_REGISTRY" in bytes(page.body).decode()
    assert 'href="/api/docs"' in bytes(page.body).decode()
