"""Pages as text, and what `fetch_url` makes of an answer."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import ToolFailed, ToolRefused
from shared.sessions.tools.base import InvalidToolArguments, ToolContext, validate_arguments
from shared.sessions.tools.builtin.fetch_url import MAX_TEXT_CHARS, fetch_url
from shared.sessions.tools.builtin.html_text import text_of_html
from shared.sessions.tools.services import FetchRequest, FetchResponse, ToolServices


@pytest.mark.parametrize(
    ("html", "title", "text"),
    [
        ("<p>one</p><p>two  words\nhere</p>", "", "one\ntwo words here"),
        ("<title>T &amp; t</title><h1>Head</h1>a<br>b<br/>c", "T & t", "Head\na\nb\nc"),
        ("<script>alert('<p>no</p>')</script><style>p{}</style>yes", "", "yes"),
        ("<body>a<noscript>no<b>no</b></noscript>b<template><p>no</p></template>c</body>", "", "abc"),
        ("<head><title>t</title><meta><body>seen", "t", "seen"),
        ("<table><tr><td>1</td><td>2</td></tr><tr><td>3</td></tr></table>", "", "1 2\n3"),
        ("<ul><li>a<li>b</ul>", "", "a\nb"),
        ("&lt;b&gt; &#9731; &nbsp; &bogus;", "", "<b> ☃ &bogus;"),
        ("<!-- no --><![CDATA[no]]><?no?>yes<", "", "yes<"),
        ("plain", "", "plain"),
        ("", "", ""),
        ("</p></script>x</noscript>", "", "x"),
        ("<svg><title>no</title><text>no</text></svg>x<title>t</title>", "t", "x"),
    ],
)
async def test_page_is_read_as_its_text(html: str, title: str, text: str) -> None:
    assert await text_of_html(html) == (title, text)


@given(st.text(alphabet="<>/ab&;!-\"'= \nscriptylehead", max_size=300))
async def test_any_markup_is_read_without_an_error(html: str) -> None:
    title, text = await text_of_html(html)
    assert len(title) + len(text) <= 2 * len(html)


_HALF_A_MEGABYTE = 512 * 1024
_HOSTILE = {
    "open quotes": "<a b='" * _HALF_A_MEGABYTE,
    "end tags that close nothing in much that is open": "<svg>" * 900 + "</math>" * _HALF_A_MEGABYTE,
    "deep": "<div>" * _HALF_A_MEGABYTE,
    "open comments": "<!--" * _HALF_A_MEGABYTE,
    "brackets": "<" * _HALF_A_MEGABYTE,
    "entities": "&none;" * _HALF_A_MEGABYTE,
    "attributes": "<a " + "b=c " * _HALF_A_MEGABYTE,
}


@pytest.mark.parametrize("page", _HOSTILE.values(), ids=_HOSTILE)
async def test_a_hostile_page_lets_others_run(page: str) -> None:
    """Read in pieces, and each time the loop gets its turn. With the standard library's parser, minutes for some."""
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    running = asyncio.create_task(others())
    await text_of_html(page[:_HALF_A_MEGABYTE])
    running.cancel()
    # What nests too deep is left after the piece in which it does.
    assert turns >= (0 if page.startswith("<div>") else 32)


async def test_text_before_the_nesting_got_too_deep_is_kept() -> None:
    assert await text_of_html("<p>seen</p>" + "<div>" * 2000 + "left out") == ("", "seen")


class OnePage:
    """An `HttpFetcher` that answers everything alike and remembers what it was asked."""

    def __init__(self, **answer: Any) -> None:
        self.asked: list[FetchRequest] = []
        values: dict[str, Any] = {
            "status": 200,
            "url": "https://docs.example/a",
            "headers": {"content-type": "text/html; charset=utf-8"},
            "text": "",
            "body_bytes": 10,
            "is_truncated": False,
            "is_binary": False,
        }
        self.answer = FetchResponse(**values | answer)

    async def fetch(self, request: FetchRequest) -> FetchResponse:
        self.asked.append(request)
        return self.answer


async def fetched(call: ToolContext, page: OnePage) -> Any:
    call = dataclasses.replace(call, services=ToolServices(http=page))
    return await fetch_url.run(validate_arguments(fetch_url, {"url": "https://docs.example/a"}), call)


async def test_page_comes_as_its_title_and_text_by_one_get(call: ToolContext) -> None:
    page = OnePage(text="<title>Guide</title><script>steal()</script><p>Read me.</p>")
    output = await fetched(call, page)
    assert output.content == "HTTP 200 from https://docs.example/a\nTitle: Guide\n\nRead me."
    assert (output.data["title"], output.data["text"]) == ("Guide", "Read me.")
    (request,) = page.asked
    assert (request.method, request.body, request.url) == ("GET", None, "https://docs.example/a")


async def test_other_text_comes_as_it_is_and_long_text_is_cut(call: ToolContext) -> None:
    json = await fetched(call, OnePage(headers={"content-type": "application/json"}, text='{"a": "<b>"}'))
    assert json.content.endswith('\n\n{"a": "<b>"}')
    long = await fetched(call, OnePage(headers={"content-type": "text/plain"}, text="x" * (MAX_TEXT_CHARS + 1)))
    assert long.content.endswith("x\n[cut]")
    assert (len(long.data["text"]), long.data["is_truncated"]) == (MAX_TEXT_CHARS, True)


async def test_error_page_is_an_answer_and_binary_content_is_not(call: ToolContext) -> None:
    missing = await fetched(call, OnePage(status=404, text="<h1>Not here</h1>"))
    assert missing.content == "HTTP 404 from https://docs.example/a\n\nNot here"
    with pytest.raises(ToolFailed, match="image/png"):
        await fetched(call, OnePage(headers={"content-type": "image/png"}, is_binary=True))


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"url": "ftp://a/b"},
        {"url": "https://u:p@a/"},
        {"url": "https://a/ b"},
        {"url": "https://a/" + "x" * 2048},
        {"url": "https://a/", "method": "POST"},
    ],
)
def test_arguments_that_could_never_be_fetched_are_refused(arguments: dict[str, object]) -> None:
    with pytest.raises(InvalidToolArguments):
        validate_arguments(fetch_url, arguments)


async def test_without_its_service_it_refuses(call: ToolContext) -> None:
    with pytest.raises(ToolRefused):
        await fetch_url.run(validate_arguments(fetch_url, {"url": "https://a/"}), call)


def test_it_is_automatic_and_may_be_repeated() -> None:
    assert (fetch_url.approval, fetch_url.idempotent) == ("auto", True)
