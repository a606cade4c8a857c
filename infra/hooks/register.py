#!/usr/bin/env python3
"""The Entra application that callers sign in to, with the roles of `app-roles.json`: once per environment, by somebody
who may register applications.

    register.py [NAME]      NAME: parley-$AZURE_ENV_NAME unless given

Prints its client id, which goes into the environment: `azd env set PARLEY_AUTH_CLIENT_ID ID`. After the resources are
made, run it again: it sets where a sign-in returns to, and lets the app's identity stand in for a client secret.

Invariant: with PARLEY_AUTH_CLIENT_ID each step repeats harmlessly, so a run that ended half-way is run again; without
it, an application that exists is never taken, since anybody who may register applications can take a name.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from azure_cli import Refused, az, end, needed

ROLES = Path(__file__).parents[1] / "app-roles.json"
API = {
    # Tokens of version 2: their issuer is the one that App Service is told to accept (infra/modules/app/auth.bicep).
    "requestedAccessTokenVersion": 2,
    # For consoles on other sites and command lines, which ask for a token in the name of a user.
    "oauth2PermissionScopes": [
        {
            "id": "0b6e3f52-6f0e-4a53-9a55-6f6c7f1d2b01",
            "value": "user_impersonation",
            "type": "User",
            "adminConsentDisplayName": "Use Parley",
            "adminConsentDescription": "Use Parley in the name of the signed-in user, with the user's roles.",
            "isEnabled": True,
        }
    ],
}
AUDIENCE = "api://AzureADTokenExchange"


def main(arguments: list[str]) -> int:
    known = os.environ.get("PARLEY_AUTH_CLIENT_ID", "")
    client = known
    try:
        client = client or _made(arguments[0] if arguments else f"parley-{needed('AZURE_ENV_NAME')[0]}")
        _complete(client)
    except Refused as error:
        again = (
            "" if known or not client else f"; it is half made: azd env set PARLEY_AUTH_CLIENT_ID {client}, then again"
        )
        end(f"{error}{again}")
    print(client)
    return 0


def _made(name: str) -> str:
    """The id of a new application."""
    # By filter, since --display-name finds every name that begins so: an environment `dev` would meet that of `dev2`.
    found = [str(each["appId"]) for each in az("ad", "app", "list", "--filter", f"displayName eq '{name}'")]
    if found:
        end(
            f"there is an application named {name} already: {', '.join(found)}; if it is this environment's: "
            "azd env set PARLEY_AUTH_CLIENT_ID <id>; else choose another name"
        )
    who = ("--display-name", name, "--sign-in-audience", "AzureADMyOrg", "--enable-id-token-issuance", "true")
    return str(az("ad", "app", "create", *who, "--app-roles", f"@{ROLES}")["appId"])


def _complete(client: str) -> None:
    az("ad", "app", "update", "--id", client, "--identifier-uris", f"api://{client}", "--set", f"api={json.dumps(API)}")
    if not az("ad", "sp", "list", "--filter", f"appId eq '{client}'"):
        az("ad", "sp", "create", "--id", client)
    # Only who has been given a role may sign in, not everybody in the tenant. Each time, so that it is not switched off
    # for long.
    az("ad", "sp", "update", "--id", client, "--set", "appRoleAssignmentRequired=true")
    if address := os.environ.get("SERVICE_APP_URI"):
        az("ad", "app", "update", "--id", client, "--web-redirect-uris", f"{address}/.auth/login/aad/callback")
        _trust(client, *needed("APP_IDENTITY_OBJECT_ID", "AZURE_TENANT_ID"))


def _trust(client: str, identity: str, tenant: str) -> None:
    """The app's identity in place of a client secret. A newer identity, after `azd down`, replaces the old one."""
    wanted = {
        "name": "app",
        "issuer": f"https://login.microsoftonline.com/{tenant}/v2.0",
        "subject": identity,
        "audiences": [AUDIENCE],
    }
    trusted = az("ad", "app", "federated-credential", "list", "--id", client)
    found = next((each for each in trusted if each["name"] == "app"), None)
    if found is None:
        az("ad", "app", "federated-credential", "create", "--id", client, "--parameters", json.dumps(wanted))
    elif (found["issuer"], found["subject"]) != (wanted["issuer"], identity):
        which = ("--id", client, "--federated-credential-id", "app")
        az("ad", "app", "federated-credential", "update", *which, "--parameters", json.dumps(wanted))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
