"""Entra tokens instead of passwords and keys: one credential per process.

Implements no port: the other adapters take their tokens here.

`AZURE_CLIENT_ID` selects the identity if a machine has several. A token is a secret for about an hour: it is sent only
to its service over TLS, and no message here contains one.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from azure.core.credentials import TokenCredential
    from azure.core.credentials_async import AsyncTokenCredential

POSTGRES_SCOPE = "https://ossrdbms-aad.database.windows.net/.default"
REDIS_SCOPE = "https://redis.azure.com/.default"
SIGNALR_SCOPE = "https://signalr.azure.com/.default"
OPENAI_SCOPE = "https://ai.azure.com/.default"
"""Scope of the v1 API on every kind of account. Source: Microsoft's troubleshooting page for Azure OpenAI, 2026-09."""


class TokenUnavailable(Exception):
    """No token is available; the message contains only the class of the error, never a token."""


@cache
def credential() -> AsyncTokenCredential:
    """This process's credential, made on first use: the managed identity in Azure, `az login` on a laptop."""
    from azure.identity.aio import DefaultAzureCredential

    return DefaultAzureCredential()


@cache
def blocking_credential() -> TokenCredential:
    """The same, for threads without an event loop."""
    from azure.identity import DefaultAzureCredential

    return DefaultAzureCredential()


async def token_for(scope: str, made: Callable[[], AsyncTokenCredential] = credential) -> str:
    """A token that is valid for at least some minutes. The credential caches it, so calls are cheap.

    Raises TokenUnavailable.
    """
    from azure.core.exceptions import AzureError

    try:
        return (await made().get_token(scope)).token
    except AzureError as exc:
        raise TokenUnavailable(f"no token for {scope}: {type(exc).__name__}") from exc
