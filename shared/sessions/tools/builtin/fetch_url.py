"""The tool `fetch_url`: reads a page or document from an allowed host.

Invariant: it only sends GET, through the guarded client, and returns plain text: scripts, styles and markup are
removed.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from shared.errors import ToolFailed, ToolRefused
from shared.sessions.tools.base import ToolApproval, ToolArguments, ToolContext, ToolOutput, ToolRisk, tool
from shared.sessions.tools.builtin.html_text import text_of_html
from shared.sessions.tools.builtin.http_rules import MAX_URL_CHARS, parse_url
from shared.sessions.tools.services import FetchRequest

_TIMEOUT_S = 20.0
_MAX_BODY_BYTES = 512 * 1024
"""Pages are mostly markup; their text is about a tenth of this."""
MAX_TEXT_CHARS = 20_000
_ACCEPT = "text/html, application/xhtml+xml, text/plain, application/json;q=0.9, */*;q=0.5"


def _checked(url: str) -> str:
    parse_url(url)
    return url


class FetchUrlArguments(ToolArguments):
    url: Annotated[str, Field(max_length=MAX_URL_CHARS), AfterValidator(_checked)] = Field(
        description="http or https address on an allowed host"
    )


@tool(
    approval=ToolApproval.AUTO,
    idempotent=True,
    # A URL is sent to its host, so a URL that the model composed can leak data.
    risks={ToolRisk.READS_UNTRUSTED, ToolRisk.ACTS_OUTWARD},
    outward_unless_quoted="url",
    timeout_s=30,
)
async def fetch_url(arguments: FetchUrlArguments, call: ToolContext) -> ToolOutput:
    """Fetch a web page or document from an allowed host and return its text."""
    if call.services.http is None:
        raise ToolRefused("This deployment makes no HTTP requests for tools.")
    response = await call.services.http.fetch(
        FetchRequest(
            method="GET",
            url=arguments.url,
            headers={"Accept": _ACCEPT},
            timeout_s=_TIMEOUT_S,
            max_body_bytes=_MAX_BODY_BYTES,
        )
    )
    media_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if response.is_binary:
        raise ToolFailed(
            f"{response.url} is {media_type or 'binary'}, of which no text can be read.",
        )
    title, text = "", response.text
    if media_type in {"text/html", "application/xhtml+xml"}:
        title, text = await text_of_html(text)
    is_cut = response.is_truncated or len(text) > MAX_TEXT_CHARS
    text = text[:MAX_TEXT_CHARS]
    lines = [f"HTTP {response.status} from {response.url}"]
    if title:
        lines.append(f"Title: {title}")
    lines += ["", text]
    if is_cut:
        lines.append("[cut]")
    return ToolOutput(
        "\n".join(lines),
        {
            "status": response.status,
            "url": response.url,
            "media_type": media_type,
            "title": title,
            "text": text,
            "is_truncated": is_cut,
            "redirects": list(response.redirects),
        },
    )
