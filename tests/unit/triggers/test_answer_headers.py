"""What every answer tells browsers and caches, a refusal as well."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace

import pytest
from azurefunctions.extensions.http.fastapi import Response
from starlette.requests import Request

from shared.errors import ErrorCode, InvalidInput
from shared.sessions.live.reading import ReaderMemory
from triggers.http import endpoints
from triggers.http.endpoints import Call, Operation, raw_json

OPERATION = Operation("GET", "/api/v1/example", "example", "An example", "Example", 200, public=True)


async def _headers(
    monkeypatch: pytest.MonkeyPatch, public_base_url: str, refusal: InvalidInput | None, kept: str | None
) -> Mapping[str, str]:
    settings = SimpleNamespace(public_base_url=public_base_url)
    monkeypatch.setattr(endpoints, "services", lambda: SimpleNamespace(settings=settings, readers=ReaderMemory()))

    async def handler(_: Call, __: None) -> Response:
        if refusal is not None:
            raise refusal
        return raw_json({}, headers=None if kept is None else {"Cache-Control": kept})

    request = Request({"type": "http", "method": "GET", "path": "/", "query_string": b"", "headers": []})
    return (await endpoints._serve(OPERATION, handler, request, None, None)).headers


@pytest.mark.parametrize("refusal", [None, InvalidInput(ErrorCode.VALIDATION_ERROR, "No.")], ids=["answer", "refusal"])
async def test_json_is_not_stored_and_not_taken_for_anything_else(
    monkeypatch: pytest.MonkeyPatch, refusal: InvalidInput | None
) -> None:
    headers = await _headers(monkeypatch, "http://localhost:7071", refusal, None)
    assert (headers["cache-control"], headers["x-content-type-options"]) == ("no-store", "nosniff")


async def test_a_route_may_say_itself_how_its_answer_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    headers = await _headers(monkeypatch, "http://localhost:7071", None, "no-cache")
    assert headers["cache-control"] == "no-cache"


@pytest.mark.parametrize("refusal", [None, InvalidInput(ErrorCode.VALIDATION_ERROR, "No.")], ids=["answer", "refusal"])
async def test_browsers_are_held_to_https_where_the_app_has_it(
    monkeypatch: pytest.MonkeyPatch, refusal: InvalidInput | None
) -> None:
    headers = await _headers(monkeypatch, "https://chat.example", refusal, None)
    assert headers["strict-transport-security"] == "max-age=63072000"
    plain = await _headers(monkeypatch, "http://localhost:7071", refusal, None)
    assert "strict-transport-security" not in plain
