"""Webhooks of users: signed as Standard Webhooks define, to addresses that users choose.

Implements `WebhookSender` and `WebhookAddresses`. Connections go to checked addresses only (`connecting.py`), redirects
are not followed, and of an answer only its status is read.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Sequence
from datetime import datetime

import aiohttp
from standardwebhooks import Webhook
from yarl import URL

from shared import tracing
from shared.adapters.http.connecting import Lookup, SystemLookup, check_address, guarded_session
from shared.adapters.http.guard import AllowList
from shared.errors import ToolRefused
from shared.sessions.channels.delivering import Answered
from shared.sessions.tools.builtin.http_rules import parse_url

SETTING = "WEBHOOK_HOSTS"
PUBLIC = "public"
"""The entry that stands for every public host."""
NONE = "none"
"""The entry that stands for no host, since an empty setting counts as not set."""
TIMEOUT_S = 10.0
"""For all of a try."""
USER_AGENT = "Parley-webhooks/1"
_MAX_RETRY_AFTER = 10**6


class GuardedWebhooks:
    """Holds nothing open between requests."""

    def __init__(self, hosts: Collection[str], *, lookup: Lookup | None = None, timeout_s: float = TIMEOUT_S) -> None:
        """hosts: `public` or `none`, and `host[:port]` entries. lookup: None: the operating system's.

        Raises ConfigError, which names the invalid entry.
        """
        named = [host for host in hosts if host not in (PUBLIC, NONE)]
        self._allow = AllowList(named, setting=SETTING, public=PUBLIC in hosts)
        self._lookup = lookup or SystemLookup()
        self._timeout_s = timeout_s

    def check(self, url: str) -> None:
        """Raises ValueError, whose text says why nothing is sent there."""
        try:
            check_address(self._allow, parse_url(url))
        except ToolRefused as exc:
            raise ValueError(exc.safe_message) from None

    async def send(self, url: str, message_id: str, body: bytes, secrets: Sequence[str], *, now: datetime) -> Answered:
        """Sign and send it. Never raises for what the receiver or the network does."""
        headers = {
            "content-type": "application/json",
            "user-agent": USER_AGENT,
            "webhook-id": message_id,
            "webhook-timestamp": str(int(now.timestamp())),
            # One signature per secret: during a rotation the receiver may know only the old or the new one.
            "webhook-signature": " ".join(Webhook(one).sign(message_id, now, body.decode()) for one in secrets),
            **tracing.outgoing(),
        }
        begun = time.monotonic()
        status, error, retry_after_s = await self._post(url, body, headers)
        return Answered(status, error, int((time.monotonic() - begun) * 1_000), retry_after_s)

    async def _post(
        self, url: str, body: bytes, headers: dict[str, str]
    ) -> tuple[int | None, str | None, float | None]:
        try:
            target: URL = parse_url(url)
            async with (
                asyncio.timeout(self._timeout_s),
                guarded_session(self._allow, target, self._lookup) as session,
                session.post(target, data=body, headers=headers, allow_redirects=False) as response,
            ):
                status = response.status
                asked = response.headers.get("retry-after", "")
                if 200 <= status < 300:
                    return status, None, None
                said = "a redirect, which is not followed" if 300 <= status < 400 else f"{status}"
                return status, f"The receiver answered {said}.", _seconds(asked)
        except ToolRefused as exc:
            return None, exc.safe_message, None
        except TimeoutError:
            return None, f"The receiver did not answer within {self._timeout_s:g} seconds.", None
        except (aiohttp.ClientError, OSError, ValueError):
            return None, "The receiver could not be reached, or did not answer in HTTP.", None


def _seconds(text: str) -> float | None:
    """Of a Retry-After in seconds; a date is not read."""
    return float(min(int(text), _MAX_RETRY_AFTER)) if text.isascii() and text.isdigit() and len(text) < 10 else None
