"""`.github/workflows/azure-dev.yml`: what runs with which rights, and nothing of a stranger reaches the cloud."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
FILE = ROOT / ".github/workflows/azure-dev.yml"
TEXT = FILE.read_text("utf-8")
OF_A_PERSON = {"PARLEY_DEPLOYER_IP", "PARLEY_PRINCIPAL_NAME", "PARLEY_PRINCIPAL_TYPE"}
"""Parameters that are others in a pipeline."""


def _read(path: Path) -> dict[str, Any]:
    """As text throughout, since YAML 1.1 takes `on` for a boolean."""
    found: dict[str, Any] = yaml.load(path.read_text("utf-8"), Loader=yaml.BaseLoader)
    return found


WORKFLOW, AZD = _read(FILE), _read(ROOT / "azure.yaml")
CHECK, DEPLOY = (WORKFLOW["jobs"][name] for name in ("check", "deploy"))


def _commands(job: dict[str, Any]) -> list[str]:
    return [step["run"] for step in job["steps"] if "run" in step]


def test_it_is_a_workflow_by_githubs_schema() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows", str(FILE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr


def test_every_action_is_pinned_by_its_commit_with_its_version_beside_it() -> None:
    used = re.findall(r"uses: (\S+)(.*)", TEXT)

    assert len(used) == sum("uses" in step for job in WORKFLOW["jobs"].values() for step in job["steps"]) > 0
    for action, comment in used:
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", action), action
        assert re.fullmatch(r" # v\d+\.\d+\.\d+", comment), action
    assert len(set(used)) == len({action.partition("@")[0] for action, _ in used}), "each at one version"


def test_a_strangers_code_runs_without_rights() -> None:
    assert WORKFLOW["on"] == {"push": {"branches": ["main"]}, "pull_request": "", "workflow_dispatch": ""}
    assert WORKFLOW["permissions"] == {}
    assert CHECK["permissions"] == {"contents": "read"}
    assert "env" not in CHECK
    assert "env" not in WORKFLOW
    assert "vars." not in str(CHECK)
    assert not re.search(r"\bazd\b|az (?!bicep install)", " ".join(_commands(CHECK)))
    assert CHECK["runs-on"] == "ubuntu-24.04", "never a machine of our own"
    for job in (CHECK, DEPLOY):
        (checkout,) = [step for step in job["steps"] if step.get("uses", "").startswith("actions/checkout@")]
        assert checkout["with"] == {"persist-credentials": "false"}


def test_only_main_of_a_repository_that_was_set_up_is_deployed_once_at_a_time() -> None:
    assert set(WORKFLOW["jobs"]) == {"check", "deploy"}
    assert DEPLOY["needs"] == "check"
    assert DEPLOY["if"].split(" && ") == [
        "github.event_name != 'pull_request'",
        "github.ref == 'refs/heads/main'",
        "vars.AZURE_CLIENT_ID != ''",
    ]
    assert DEPLOY["permissions"] == {"contents": "read", "id-token": "write"}
    assert DEPLOY["environment"] == "${{ vars.AZURE_ENV_NAME }}", "whose rules say who may deploy"
    assert DEPLOY["concurrency"] == {"group": "deploy-${{ vars.AZURE_ENV_NAME }}", "cancel-in-progress": "false"}


def test_there_is_no_secret_and_nothing_is_pasted_into_a_shell() -> None:
    assert "secrets" not in re.sub(r"(?m)^ *#.*", "", TEXT)
    assert not [command for job in (CHECK, DEPLOY) for command in _commands(job) if "${{" in command]
    assert "secrets" not in AZD["pipeline"]


def test_what_is_checked_is_what_a_change_has_to_pass() -> None:
    assert _commands(CHECK)[-1] == ".ci/run"
    assert "dev infra" in (ROOT / ".ci/run").read_text("utf-8")
    assert [command.split(" --")[0] for command in _commands(DEPLOY)] == [
        "azd auth login",
        "azd provision",
        "azd deploy",
    ]
    assert '--federated-credential-provider github --tenant-id "$AZURE_TENANT_ID"' in _commands(DEPLOY)[0]


def test_every_parameter_of_the_deployment_reaches_it() -> None:
    taken = set(re.findall(r"\$\{(PARLEY_\w+)", (ROOT / "infra/main.parameters.json").read_text("utf-8")))
    copied = taken - OF_A_PERSON

    assert taken > OF_A_PERSON
    assert set(AZD["pipeline"]["variables"]) == copied, "what `azd pipeline config` copies"
    assert {name: value for name, value in DEPLOY["env"].items() if name in copied} == {
        name: f"${{{{ vars.{name} }}}}" for name in copied
    }
    assert DEPLOY["env"]["PARLEY_PRINCIPAL_TYPE"] == "ServicePrincipal"
    assert "PARLEY_DEPLOYER_IP" not in DEPLOY["env"]


def test_it_installs_an_azd_that_azure_yaml_accepts() -> None:
    (version,) = [step["with"]["version"] for step in DEPLOY["steps"] if "setup-azd@" in step.get("uses", "")]
    least = AZD["requiredVersions"]["azd"].removeprefix(">= ")

    assert [int(part) for part in version.split(".")] >= [int(part) for part in least.split(".")] >= [1, 23, 4]
