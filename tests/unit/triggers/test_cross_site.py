"""Which site a browser's request came from, also behind Azure's proxy."""

from __future__ import annotations

import pytest
from starlette.requests import Request

from triggers.http.endpoints import is_cross_site

PUBLIC = "https://chat.example"
BEHIND_THE_PROXY = {"host": "127.0.0.1:41231", "x-forwarded-host": "parley.azurewebsites.net"}


def _request(headers: dict[str, str]) -> Request:
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    return Request({"type": "http", "method": "POST", "path": "/", "query_string": b"", "headers": raw})


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"sec-fetch-site": "same-origin", "origin": "https://evil.test"},
        {"sec-fetch-site": "none"},
        {"origin": PUBLIC},
        {"origin": PUBLIC, **BEHIND_THE_PROXY},
        {"origin": "https://parley.azurewebsites.net", **BEHIND_THE_PROXY},
        {"origin": "http://localhost:7071", "host": "localhost:7071"},
    ],
    ids=str,
)
def test_our_own_pages_and_programs_are_no_other_site(headers: dict[str, str]) -> None:
    assert not is_cross_site(_request(headers), PUBLIC)


@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "cross-site", "origin": PUBLIC},
        {"sec-fetch-site": "same-site", "origin": PUBLIC},
        {"origin": "https://evil.test", **BEHIND_THE_PROXY},
        {"origin": "null", **BEHIND_THE_PROXY},
        {"origin": "null", "host": ""},
        {"origin": "http://[", "host": ""},
        # The worker's own address is nobody's site: a page there is some program on the reader's machine.
        {"origin": "http://127.0.0.1:41231", **BEHIND_THE_PROXY},
        {"origin": "https://evil.test", "x-forwarded-host": "evil.test, chat.example"},
    ],
    ids=str,
)
def test_anything_else_is_another_site(headers: dict[str, str]) -> None:
    assert is_cross_site(_request(headers), PUBLIC)
