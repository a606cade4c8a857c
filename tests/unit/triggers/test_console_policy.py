"""Where the console's page may connect to."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from starlette.requests import Request

from shared.principal import AuthMode
from shared.settings import Settings
from triggers.site import console
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


@pytest.mark.parametrize("function", [console.console, console.console_asset], ids=["page", "asset"])
@pytest.mark.parametrize(
    ("url", "said"), [("https://chat.example", "max-age=63072000"), ("http://localhost:7071", None)]
)
async def test_browsers_are_held_to_https_where_the_app_has_it(
    monkeypatch: pytest.MonkeyPatch, function: Any, url: str, said: str | None
) -> None:
    settings = Settings.model_construct(
        public_base_url=url, auth_mode=AuthMode.EASYAUTH, signalr_service_uri=None, signalr_connection_string=None
    )
    monkeypatch.setattr(console, "services", lambda: SimpleNamespace(settings=settings))
    request = Request({"type": "http", "method": "GET", "path": "/", "headers": [], "path_params": {"name": "x"}})

    response = await function._function.get_user_function()(request)

    assert response.headers.get("strict-transport-security") == said
