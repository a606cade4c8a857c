#!/usr/bin/env python3
"""`signed_in.py COMMAND ...`: run a hook with `az` signed in.

In a workflow of GitHub, `az` signs in here, as the federated identity AZURE_CLIENT_ID and anew for each hook: the token
by which GitHub vouches for a job is valid for five minutes, `az` keeps it to ask for further tokens, and the resources
take half an hour to make (https://github.com/Azure/login/issues/180). Elsewhere whoever is signed in stays it.

Invariant: the token is no argument of a command, and lies only in a file of this user, for as long as `az` reads it.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import urllib.request

from azure_cli import Refused, az, end, needed

AUDIENCE = "api://AzureADTokenExchange"
_TIMEOUT_S = 30


def main(command: list[str]) -> None:
    if os.environ.get("GITHUB_ACTIONS") == "true":
        _sign_in()
    os.execvp(command[0], command)


def _sign_in() -> None:
    names = ("AZURE_CLIENT_ID", "AZURE_TENANT_ID", "AZURE_SUBSCRIPTION_ID")
    client, tenant, subscription = needed(*names)
    # GitHub gives these two to a job that may write `id-token`.
    url, bearer = needed("ACTIONS_ID_TOKEN_REQUEST_URL", "ACTIONS_ID_TOKEN_REQUEST_TOKEN")
    request = urllib.request.Request(f"{url}&audience={AUDIENCE}", headers={"Authorization": f"Bearer {bearer}"})
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:
            token = json.load(answer)["value"]
        with tempfile.NamedTemporaryFile("w", encoding="ascii") as file:  # for its owner alone
            file.write(token)
            file.flush()
            who = ("--service-principal", "--username", client, "--tenant", tenant)
            az("login", *who, "--federated-token", f"@{file.name}")
        az("account", "set", "--subscription", subscription)
    except (OSError, ValueError, KeyError, Refused) as error:
        end(f"GitHub's identity could not sign in: {error}")


if __name__ == "__main__":
    main(sys.argv[1:])
