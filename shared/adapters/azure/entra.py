"""Entra tokens in the place of passwords and keys: one credential per process.

`AZURE_CLIENT_ID` picks the identity where a machine has several. A token is a secret for about an hour: it goes to its
service over TLS and nowhere else, and no message here shows one.
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
"""Of the v1 API, on every kind of account. Source: Microsoft's troubleshooting page for Azure OpenAI, 2026-09."""


class TokenUnavailable(Exception):
    """No token can be had just now; the message names the reason's class and never a token."""


@cache
def credential() -> AsyncTokenCredential:
    """This process's credential, made on first use: the managed identity in Azure, `az login` on a laptop."""
    from azure.identity.aio import DefaultAzureCredential

    return DefaultAzureCredential()


@cache
def blocking_credential() -> TokenCredential:
    """The same for threads that have no event loop."""
    from azure.identity import DefaultAzureCredential

    return DefaultAzureCredential()


async def token_for(scope: str, made: Callable[[], AsyncTokenCredential] = credential) -> str:
    """A token that is good for some minutes at least. The credential keeps it, so this is cheap to call.

    Raises TokenUnavailable.
    """
    from azure.core.exceptions import AzureError

    try:
        return (await made().get_token(scope)).token
    except AzureError as exc:
        raise TokenUnavailable(f"no token for {scope}: {type(exc).__name__}") from exc
