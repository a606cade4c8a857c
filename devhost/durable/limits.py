"""How large a payload may be: for the Durable Task Scheduler, which apps name as `azureManaged` in host.json.

It takes about 1 MiB of JSON per payload, and has no way for apps on the Python SDK 1.x to put more elsewhere. Azure
Storage moves what is larger than a queue message into blobs, so it has no limit here.
Source: "Large payload support with Durable Task Scheduler"; the samples of Azure-Samples/Durable-Task-Scheduler.

Not here: what fails with a payload that is too large (`engine.py`, `replay/episode.py`, `workers/`).
"""

from __future__ import annotations

SCHEDULER_LIMIT_BYTES = 1024 * 1024
_MOST_BYTES_A_CHARACTER = 4


def too_large(what: str, text: str | None, limit_bytes: int | None) -> str | None:
    """Why a payload is refused, or None. text: JSON; limit_bytes: of its UTF-8; None: no limit."""
    if limit_bytes is None or text is None or len(text) * _MOST_BYTES_A_CHARACTER <= limit_bytes:
        return None
    size = len(text.encode("utf-8", "surrogatepass"))
    if size <= limit_bytes:
        return None
    return (
        f"{what} has {size} bytes, and the Durable Task Scheduler takes {limit_bytes} at most; store it elsewhere and "
        "pass its key"
    )
