"""The tool `http_request`: any HTTP method to hosts on the allow-list, after approval.

Invariant: the request sent is the request approved. Arguments are validated before approval, and nothing is added that
changes their meaning; the tool call id is sent as `Idempotency-Key`.
"""

from __future__ import annotations

from typing import Annotated, Literal

import orjson
from pydantic import AfterValidator, Field

from shared.errors import ToolRefused
from shared.sessions.tools.base import ToolApproval, ToolArguments, ToolContext, ToolOutput, ToolRisk, tool
from shared.sessions.tools.builtin.http_rules import MAX_URL_CHARS, check_headers, parse_url
from shared.sessions.tools.services import FetchRequest, FetchResponse

MAX_REQUEST_CHARS = 100_000
_TIMEOUT_S = 20.0


def _checked_url(text: str) -> str:
    parse_url(text)
    return text


def _checked_headers(headers: dict[str, str]) -> dict[str, str]:
    check_headers(headers)
    return headers


class HttpRequestArguments(ToolArguments):
    method: Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
    url: Annotated[str, AfterValidator(_checked_url)] = Field(
        max_length=MAX_URL_CHARS, description="Absolute http or https URL on an allowed host"
    )
    headers: Annotated[dict[str, str], AfterValidator(_checked_headers)] = Field(
        default={}, description="Extra request headers"
    )
    body: str | None = Field(
        default=None, max_length=MAX_REQUEST_CHARS, description="Request body as text; JSON as text"
    )


@tool(
    approval=ToolApproval.MANUAL,
    idempotent=False,
    # For every method: even a GET sends a URL and headers that the model chose.
    risks={ToolRisk.READS_UNTRUSTED, ToolRisk.ACTS_OUTWARD},
    timeout_s=30,
)
async def http_request(arguments: HttpRequestArguments, call: ToolContext) -> ToolOutput:
    """Send an HTTP request to an allowed host and return status, headers and body. A person must approve it first."""
    if call.services.http is None:
        raise ToolRefused("This deployment makes no HTTP requests for tools.")
    headers = dict(arguments.headers)
    if arguments.body is not None and not any(name.lower() == "content-type" for name in headers):
        headers["Content-Type"] = _guessed_type(arguments.body)
    response = await call.services.http.fetch(
        FetchRequest(
            method=arguments.method,
            url=arguments.url,
            headers=headers,
            body=None if arguments.body is None else arguments.body.encode("utf-8", "replace"),
            idempotency_key=call.tool_call_id,
            timeout_s=_TIMEOUT_S,
        )
    )
    return as_output(response)


def as_output(response: FetchResponse) -> ToolOutput:
    """The response as text for the model: a status line, the headers, an empty line, the body."""
    lines = [f"HTTP {response.status} from {response.url}"]
    lines += [f"{name}: {value}" for name, value in response.headers.items()]
    if response.is_binary:
        lines += ["", f"[binary content, {response.body_bytes} bytes, left out]"]
    elif response.text:
        lines += ["", response.text]
    if response.is_truncated and not response.is_binary:
        lines.append(f"[cut after {response.body_bytes} bytes]")
    return ToolOutput(
        "\n".join(lines),
        {
            "status": response.status,
            "url": response.url,
            "headers": dict(response.headers),
            "body": response.text,
            "is_truncated": response.is_truncated,
            "is_binary": response.is_binary,
            "redirects": list(response.redirects),
        },
    )


def _guessed_type(body: str) -> str:
    try:
        orjson.loads(body)
    except orjson.JSONDecodeError:
        return "text/plain; charset=utf-8"
    return "application/json"
