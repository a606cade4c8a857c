"""The setting MCP_ALLOW."""

from __future__ import annotations

import pytest
from yarl import URL

from shared.adapters.mcp.allowed import AllowedServers
from shared.errors import ConfigError, ToolRefused
from shared.sessions.mcp.servers import Credentials, HeaderCredential, IdentityCredential

CRM = URL("https://crm.example/mcp")
TOKEN = HeaderCredential(kind="header", name="Authorization", secret="CRM")
IDENTITY = IdentityCredential(kind="managed_identity", scope="api://crm/.default")


@pytest.mark.parametrize(
    ("entry", "credentials", "is_open"),
    [
        ("crm.example", None, True),
        ("crm.example", TOKEN, False),
        ("crm.example secret:CRM", TOKEN, True),
        ("crm.example secret:CRM", IDENTITY, False),
        ("crm.example  secret:OTHER scope:api://crm/.default", IDENTITY, True),
        ("crm.example secret:CRM2", TOKEN, False),
        ("crm.example scope:api://crm", IDENTITY, False),
        ("crm.example:8443 secret:CRM", TOKEN, False),
        ("other.example secret:CRM", TOKEN, False),
    ],
)
def test_a_credential_goes_where_the_operator_says_and_nowhere_else(
    entry: str, credentials: Credentials | None, is_open: bool
) -> None:
    allowed = AllowedServers([entry, "third.example secret:CRM scope:api://crm/.default"])
    if is_open:
        allowed.check(CRM, credentials)
        return
    with pytest.raises(ToolRefused, match="MCP_ALLOW"):
        allowed.check(CRM, credentials)


@pytest.mark.parametrize(
    "entry", ["https://crm.example", "*.example", "crm.example token", "crm.example secret:", "169.254.169.254"]
)
def test_a_wrong_entry_is_named_with_its_setting(entry: str) -> None:
    with pytest.raises(ConfigError, match="MCP_ALLOW"):
        AllowedServers([entry])
