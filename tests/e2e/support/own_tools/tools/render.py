"""A tool whose result comes later: it gives address and token to whoever listens at `notify`."""

from __future__ import annotations

import json
from urllib.request import ProxyHandler, Request, build_opener

from parley.tools import Later, ToolContext, tool


@tool(risks=())
def render(notify: str, call: ToolContext) -> Later:
    """Render a film."""
    told = json.dumps({"url": call.completion.url, "token": call.completion.token}).encode()
    build_opener(ProxyHandler({})).open(Request(notify, told), timeout=10).close()  # a sink of the test
    return Later(timeout_s=3_600)
