#!/usr/bin/env python3
"""The two secrets in the vault: made when there are none, rotated one key at a time. Needs `az`, signed in.

    vault_secrets.py ensure                  make what is missing, take back what was deleted; what exists stays
    vault_secrets.py rotate approval-link    a new key in front: it signs, the older ones still verify
    vault_secrets.py retire approval-link    only the newest key verifies from now on (docs/operations.md says when)

Invariant: no secret is printed, and none is an argument of a command that other users of the machine could list.
"""

from __future__ import annotations

import base64
import os
import secrets
import sys
from collections.abc import Callable
from datetime import UTC, datetime

from azure_cli import Refused, az, end, needed
from vault import Vault, VaultError

LINK, WEBHOOK = "approval-link", "approval-webhook"
"""As infra/modules/app/app.bicep names them."""


def new_link_key(now: datetime) -> str:
    """`id:secret`; the id is the day and a random end, so that it tells its age and never comes twice."""
    return f"k{now:%Y%m%d}{secrets.token_hex(2)}:{secrets.token_urlsafe(48)}"


def new_webhook_secret(now: datetime) -> str:
    """As Standard Webhooks write one."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()


MAKERS: dict[str, Callable[[datetime], str]] = {LINK: new_link_key, WEBHOOK: new_webhook_secret}


def rotated(name: str, value: str, now: datetime) -> str:
    """The value with a new key in front."""
    return f"{MAKERS[name](now)},{value}"


def retired(name: str, value: str) -> str:
    """The newest key alone; older ones of links stay, marked, since lines of the audit trail are sealed with them."""
    newest, *older = value.split(",")
    if name != LINK:
        return newest
    return ",".join([newest, *(f"!{key.strip().removeprefix('!')}" for key in older)])


def main(arguments: list[str]) -> int:
    now = datetime.now(UTC)
    match arguments:
        case ["ensure"]:
            pass
        case ["rotate" | "retire", name] if name in MAKERS:
            pass
        case _:
            sys.exit((__doc__ or "").partition("\n\n")[2].partition("\n\nInvariant")[0])
    endpoint, subscription = needed("AZURE_KEY_VAULT_ENDPOINT", "AZURE_SUBSCRIPTION_ID")
    try:
        asked = ("--subscription", subscription, "--resource", "https://vault.azure.net")
        vault = Vault(endpoint, az("account", "get-access-token", *asked)["accessToken"])
        if arguments == ["ensure"]:
            _ensure(vault, now)
        else:
            _change(vault, *arguments, now)
        _refresh(subscription)
    except (Refused, VaultError) as error:
        end(str(error))
    return 0


def _ensure(vault: Vault, now: datetime) -> None:
    for name, make in MAKERS.items():
        if vault.read(name) is not None:
            continue
        if vault.create(name, make(now)):
            print(f"secrets: made {name}")
        else:
            # What links and audit lines were signed with comes back, instead of a new key that verifies none of them.
            vault.recover(name)
            print(f"secrets: recovered {name}, which had been deleted")


def _change(vault: Vault, verb: str, name: str, now: datetime) -> None:
    value = vault.read(name)
    if value is None:
        end(f"{name} is not in the vault: run ensure first")
    vault.write(name, rotated(name, value, now) if verb == "rotate" else retired(name, value))
    print(f"secrets: {verb} {name} done")


def _refresh(subscription: str) -> None:
    """Have App Service look up the app's references to the vault again. It would do so within a day: until then a new
    app finds its secrets unresolved, and a rotated key does not arrive. After `ensure` as well when nothing was new:
    the time before may have ended between the secrets and this.

    https://learn.microsoft.com/azure/app-service/app-service-key-vault-references
    """
    group, app = os.environ.get("AZURE_RESOURCE_GROUP", ""), os.environ.get("AZURE_FUNCTION_APP", "")
    if not group or not app:
        print("secrets: AZURE_RESOURCE_GROUP and AZURE_FUNCTION_APP are not set: the app reads them within a day")
        return
    site = f"/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.Web/sites/{app}"
    url = f"{site}/config/configreferences/appsettings/refresh?api-version=2024-11-01"
    az("rest", "--method", "post", "--url", url)
    print("secrets: the app's references are refreshed")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
