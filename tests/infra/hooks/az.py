"""Stands in for `az`: a directory and a subscription in a JSON file, asked by the command lines of the hooks.

Answers have the members that the documentation shows, errors the texts and exit codes of azure-cli 2.91, whose parser
has accepted every command here with these options (`COMMANDS`). Anything else is refused as the parser refuses it, so
that a hook cannot lean on what `az` does not have.

State ($CLOUD, a JSON object; `cloud.py` writes it): `applications`, `principals`, `credentials` (by application),
`resources`, `groups`, `deleted_vaults`, `deleted_accounts`, `models`, `tokens` (by resource), `refuse` (command to
standard error), `asked` (every command line).
"""

from __future__ import annotations

import fcntl
import json
import os
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

SUBSCRIPTION, OUTPUT = "--subscription", ("--output", "--query")
COMMANDS: dict[str, tuple[str, ...]] = {
    "account get-access-token": (SUBSCRIPTION, "--resource", "--resource-type"),
    "account set": (SUBSCRIPTION,),
    "ad app create": ("--display-name", "--sign-in-audience", "--enable-id-token-issuance", "--app-roles"),
    "ad app federated-credential create": ("--id", "--parameters"),
    "ad app federated-credential list": ("--id",),
    "ad app federated-credential update": ("--id", "--federated-credential-id", "--parameters"),
    "ad app list": ("--filter",),
    "ad app update": ("--id", "--identifier-uris", "--set", "--web-redirect-uris"),
    "ad sp create": ("--id",),
    "ad sp list": ("--filter",),
    "ad sp update": ("--id", "--set"),
    "cognitiveservices account list-deleted": (SUBSCRIPTION,),
    "cognitiveservices model list": (SUBSCRIPTION, "--location"),
    "group exists": (SUBSCRIPTION, "--name"),
    "keyvault list-deleted": (SUBSCRIPTION, "--resource-type"),
    "login": ("--service-principal", "--username", "--tenant", "--federated-token"),
    "resource list": (SUBSCRIPTION, "--resource-group"),
    "rest": ("--method", "--url"),
}
NOT_PRESENT = "Resource '{}' does not exist or one of its queried reference-property objects are not present."
FLAGS = {"--service-principal"}


class Error(Exception):
    """`ERROR: (Code) text`; exit code 1, or 3 when something is not there."""

    def __init__(self, text: str, code: int = 1) -> None:
        super().__init__(text)
        self.code = code


def main(arguments: list[str]) -> int:
    with Path(os.environ["CLOUD"]).open("r+", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        state = json.load(file)
        state["asked"].append(arguments)
        try:
            answer = _answer(state, arguments)
        except Error as error:
            print("WARNING: something that has nothing to do with it", file=sys.stderr)
            print(f"ERROR: {error}", file=sys.stderr)
            return error.code
        finally:
            file.seek(0)
            file.truncate()
            json.dump(state, file)
    return answer


def _answer(state: dict[str, Any], arguments: list[str]) -> int:
    command = next((name for name in COMMANDS if arguments[: len(name.split())] == name.split()), None)
    if command is None:
        raise Error(f"'{' '.join(arguments)}' is misspelled or not recognized by the system.", 2)
    given: dict[str, str] = {}
    rest = arguments[len(command.split()) :]
    while rest:
        option = rest.pop(0)
        if option not in (*COMMANDS[command], *OUTPUT):
            raise Error(f"unrecognized arguments: {option}", 2)
        value = "" if option in FLAGS else rest.pop(0)
        given[option] = Path(value[1:]).read_text("utf-8") if value.startswith("@") else value
    if command in state["refuse"]:
        raise Error(state["refuse"][command])
    answer = HANDLERS[command](state, given)
    if given.get("--output") == "tsv":
        print(answer[given["--query"]])  # one member, in one line
    elif answer is not None:
        print(json.dumps(answer))
    return 0


def _application(state: dict[str, Any], given: dict[str, str]) -> dict[str, Any]:
    found = next((each for each in state["applications"] if each["appId"] == given["--id"]), None)
    if found is None:
        raise Error(NOT_PRESENT.format(given["--id"]), 3)
    return found  # type: ignore[no-any-return]


def _filtered(rows: list[dict[str, Any]], text: str) -> list[dict[str, Any]]:
    """The rows by an OData filter of one equality."""
    name, _, value = text.partition(" eq ")
    return [row for row in rows if row[name] == value.strip("'")]


def _app_create(state: dict[str, Any], given: dict[str, str]) -> Any:
    made = {
        "appId": str(uuid.uuid4()),
        "displayName": given["--display-name"],
        "signInAudience": given["--sign-in-audience"],
        "appRoles": json.loads(given["--app-roles"]),
        "identifierUris": [],
    }
    state["applications"].append(made)
    return made


def _app_update(state: dict[str, Any], given: dict[str, str]) -> None:
    application = _application(state, given)
    if "--identifier-uris" in given:
        application["identifierUris"] = [given["--identifier-uris"]]
    if "--web-redirect-uris" in given:
        application["web"] = {"redirectUris": [given["--web-redirect-uris"]]}
    if "--set" in given:
        name, _, value = given["--set"].partition("=")
        application[name] = json.loads(value)


def _sp_create(state: dict[str, Any], given: dict[str, str]) -> Any:
    _application(state, given)
    made = {"appId": given["--id"], "id": str(uuid.uuid4()), "appRoleAssignmentRequired": False}
    state["principals"].append(made)
    return made


def _sp_update(state: dict[str, Any], given: dict[str, str]) -> None:
    found = _filtered(state["principals"], f"appId eq '{given['--id']}'")
    if not found:
        raise Error(NOT_PRESENT.format(given["--id"]), 3)
    name, _, value = given["--set"].partition("=")
    found[0][name] = json.loads(value)


def _credentials(state: dict[str, Any], given: dict[str, str]) -> list[dict[str, Any]]:
    _application(state, given)
    rows: list[dict[str, Any]] = state["credentials"].setdefault(given["--id"], [])
    return rows


def _credential_create(state: dict[str, Any], given: dict[str, str]) -> Any:
    made = json.loads(given["--parameters"])
    if any(each["name"] == made["name"] for each in _credentials(state, given)):
        raise Error(f"FederatedIdentityCredential with name {made['name']} already exists.")
    _credentials(state, given).append(made)
    return made


def _credential_update(state: dict[str, Any], given: dict[str, str]) -> None:
    rows = _credentials(state, given)
    at = next(n for n, each in enumerate(rows) if each["name"] == given["--federated-credential-id"])
    rows[at] = json.loads(given["--parameters"])


def _token(state: dict[str, Any], given: dict[str, str]) -> Any:
    resource = given.get("--resource") or given["--resource-type"]
    if not state["signed_in"]:
        raise Error("Please run 'az login' to setup account.")
    return {"accessToken": state["tokens"][resource], "subscription": given[SUBSCRIPTION], "tokenType": "Bearer"}


def _login(state: dict[str, Any], given: dict[str, str]) -> Any:
    if given["--federated-token"] != state["vouched"]:
        raise Error("AADSTS700024: Client assertion is not within its valid time range.")
    state["signed_in"] = given["--username"]
    return [{"id": "a-subscription", "tenantId": given["--tenant"]}]


def _resources(state: dict[str, Any], given: dict[str, str]) -> Any:
    group = given["--resource-group"]
    if group not in state["groups"]:
        raise Error(f"(ResourceGroupNotFound) Resource group '{group}' could not be found.", 3)
    return [each for each in state["resources"] if f"/resourceGroups/{group}/" in each["id"]]


HANDLERS: dict[str, Callable[[dict[str, Any], dict[str, str]], Any]] = {
    "account get-access-token": _token,
    "account set": lambda state, given: None,
    "ad app create": _app_create,
    "ad app federated-credential create": _credential_create,
    "ad app federated-credential list": _credentials,
    "ad app federated-credential update": _credential_update,
    "ad app list": lambda state, given: _filtered(state["applications"], given["--filter"]),
    "ad app update": _app_update,
    "ad sp create": _sp_create,
    "ad sp list": lambda state, given: _filtered(state["principals"], given["--filter"]),
    "ad sp update": _sp_update,
    "cognitiveservices account list-deleted": lambda state, given: state["deleted_accounts"],
    "cognitiveservices model list": lambda state, given: state["models"],
    "group exists": lambda state, given: given["--name"] in state["groups"],
    "keyvault list-deleted": lambda state, given: state["deleted_vaults"],
    "login": _login,
    "resource list": _resources,
    "rest": lambda state, given: None,
}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
