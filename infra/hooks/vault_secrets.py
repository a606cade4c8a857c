#!/usr/bin/env python3
"""The two secrets in the vault: made when there are none, rotated one key at a time. Needs `az`, signed in.

    vault_secrets.py ensure                  make what is missing; what exists stays
    vault_secrets.py rotate approval-link    a new key in front: it signs, the older ones still verify
    vault_secrets.py retire approval-link    only the newest key verifies from now on (docs/operations.md says when)

Invariant: no secret is printed, and none is an argument of a command that other users of the machine could list.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime

LINK, WEBHOOK = "approval-link", "approval-webhook"
"""As infra/modules/app/app.bicep names them."""
ROLE_TRIES, ROLE_WAIT_S = 20, 15.0


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
    vault = os.environ.get("AZURE_KEY_VAULT_NAME", "")
    if not vault:
        sys.exit("AZURE_KEY_VAULT_NAME is not set: run this as an azd hook, or after `azd env get-values`")
    now = datetime.now(UTC)
    if arguments == ["ensure"]:
        is_new = False
        for name, make in MAKERS.items():
            if _read(vault, name) is None:
                _write(vault, name, make(now))
                print(f"secrets: made {name}")
                is_new = True
        if is_new:
            _refresh()
        return 0
    if len(arguments) == 2 and arguments[0] in {"rotate", "retire"} and arguments[1] in MAKERS:
        verb, name = arguments
        value = _read(vault, name)
        if value is None:
            sys.exit(f"{name} is not in the vault: run ensure first")
        _write(vault, name, rotated(name, value, now) if verb == "rotate" else retired(name, value))
        print(f"secrets: {verb} {name} done")
        _refresh()
        return 0
    sys.exit((__doc__ or "").partition("\n\n")[2].partition("\n\nInvariant")[0])


def _read(vault: str, name: str) -> str | None:
    done = _az("keyvault", "secret", "show", "--vault-name", vault, "--name", name)
    for _ in range(ROLE_TRIES):
        if done.returncode == 0 or "Forbidden" not in done.stderr:
            break
        # The role that the deployment has just given takes minutes to arrive.
        time.sleep(ROLE_WAIT_S)
        done = _az("keyvault", "secret", "show", "--vault-name", vault, "--name", name)
    if done.returncode != 0:
        if "SecretNotFound" in done.stderr:
            return None
        sys.exit(f"the vault cannot be read: {done.stderr.strip().splitlines()[-1]}")
    return str(json.loads(done.stdout)["value"])


def _write(vault: str, name: str, value: str) -> None:
    with tempfile.NamedTemporaryFile("w", encoding="ascii") as file:  # for its owner alone
        file.write(value)
        file.flush()
        done = _az("keyvault", "secret", "set", "--vault-name", vault, "--name", name, "--file", file.name)
    if done.returncode != 0:
        sys.exit(f"{name} cannot be written: {done.stderr.strip().splitlines()[-1]}")


def _refresh() -> None:
    """Have App Service look up the app's references to the vault again. It would do so within a day: until then a new
    app finds its secrets unresolved, and a rotated key does not arrive.

    https://learn.microsoft.com/azure/app-service/app-service-key-vault-references
    """
    group, app = os.environ.get("AZURE_RESOURCE_GROUP", ""), os.environ.get("AZURE_FUNCTION_APP", "")
    if not group or not app:
        print("secrets: AZURE_RESOURCE_GROUP and AZURE_FUNCTION_APP are not set: the app reads them within a day")
        return
    site = f"/subscriptions/{{subscriptionId}}/resourceGroups/{group}/providers/Microsoft.Web/sites/{app}"
    url = f"{site}/config/configreferences/appsettings/refresh?api-version=2024-11-01"
    done = _az("rest", "--method", "post", "--url", url)
    if done.returncode != 0:
        sys.exit(f"the app's references to the vault cannot be refreshed: {done.stderr.strip().splitlines()[-1]}")
    print("secrets: the app's references are refreshed")


def _az(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["az", *arguments, "--output", "json"], capture_output=True, text=True, check=False)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
