"""`azd up`, again, another switch, a new start: the hooks of azure.yaml in azd's order, against the stand-ins.

What azd does between the hooks is stood in for by what the documentation says it leaves: resources and outputs. How it
runs a hook: `sh`, ending at the first command that fails, in the folder of azure.yaml, with the environment's values
(https://learn.microsoft.com/azure/developer/azure-developer-cli/azd-extensibility).
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import psycopg
import pytest
import yaml

from tests.infra.hooks.cloud import ROOT, Cloud, refusal
from tests.infra.hooks.flexible_server import Server
from tests.infra.hooks.test_preflight import deleted_vault
from tests.infra.hooks.vault_server import VaultServer

AZD = yaml.safe_load((ROOT / "azure.yaml").read_text("utf-8"))
pytestmark = pytest.mark.integration


class Azd:
    def __init__(self, cloud: Cloud, vault: VaultServer, database: Server) -> None:
        """The fixtures' environment is what a deployment outputs; it is known only after the first."""
        made = set(re.findall(r"(?m)^output (\w+) ", (ROOT / "infra/main.bicep").read_text("utf-8")))
        self.cloud, self.vault, self.database = cloud, vault, database
        self.outputs = {name: cloud.environment.pop(name) for name in made & cloud.environment.keys()}
        self.outputs["DURABLE_BACKEND"], self.outputs["DURABLE_STORAGE"] = "scheduler", ""
        self.outputs["SERVICE_APP_URI"] = "https://func.azurewebsites.net"
        assert self.outputs.keys() == made, "every output is one that a hook or azd reads"

    def hook(self, name: str, **more: str) -> subprocess.CompletedProcess[str]:
        hook = AZD["hooks"][name]["posix"]
        assert (hook["shell"], hook["continueOnError"]) == ("sh", False)
        return self.cloud.command(["sh", "-c", f"set -e\n\n{hook['run']}"], **more)

    def passes(self, name: str, **more: str) -> str:
        done = self.hook(name, **more)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def provision(self, **more: str) -> None:
        self.passes("preprovision", **more)
        if not self.cloud.state["resources"]:
            self.cloud.resource("Microsoft.Storage/storageAccounts", "stparleyx", sku="Standard_LRS")
            self.cloud.resource("Microsoft.DurableTask/schedulers", "dts-parley-x")
        self.outputs["DURABLE_BACKEND"] = more.get("PARLEY_DURABLE_BACKEND", "scheduler")
        self.outputs["DURABLE_STORAGE"] = "stparleyx" if self.outputs["DURABLE_BACKEND"] == "storage" else ""
        self.cloud.environment |= self.outputs
        self.passes("postprovision", **more)

    def up(self, **more: str) -> None:
        self.provision(**more)
        self.passes("predeploy", **more)


@pytest.fixture
def azd(cloud: Cloud, vault: VaultServer, database: Server) -> Azd:
    return Azd(cloud, vault, database)


def test_up_makes_everything_and_up_again_changes_nothing(azd: Azd) -> None:
    azd.up()
    secrets = {name: list(values) for name, values in azd.vault.secrets.items()}
    assert secrets.keys() == {"approval-link", "approval-webhook"}
    azd.up()
    assert azd.vault.secrets == secrets
    with psycopg.connect(azd.database.as_user(azd.outputs["APP_IDENTITY_NAME"])) as connection:
        assert connection.execute("SELECT count(*) FROM sessions").fetchone() == (0,)


def test_an_up_that_was_cut_is_finished_by_the_next(azd: Azd) -> None:
    azd.cloud.state["refuse"] = {"rest": "(ServiceUnavailable) later"}
    azd.cloud.environment |= azd.outputs
    assert "later" in refusal(azd.hook("postprovision"))
    azd.cloud.state["refuse"] = {}
    azd.provision()
    assert [len(values) for values in azd.vault.secrets.values()] == [1, 1]


def test_another_size_is_refused_before_anything_changes(azd: Azd) -> None:
    azd.provision()
    assert "this environment is dev" in refusal(azd.hook("preprovision", PARLEY_SIZE="prod"))


def test_another_durable_backend_is_provisioned_before_it_is_deployed(azd: Azd) -> None:
    azd.provision()
    done = azd.hook("predeploy", PARLEY_DURABLE_BACKEND="storage")
    assert "the resources were made for scheduler: `azd provision` first" in refusal(done)
    assert azd.cloud.asked == [], "and the database was not touched"
    azd.up(PARLEY_DURABLE_BACKEND="storage")


def test_down_without_purge_is_told_before_the_next_up(azd: Azd) -> None:
    azd.provision()
    azd.cloud.state |= {"resources": [], "groups": [], "deleted_vaults": [deleted_vault(protected=False)]}
    assert "was deleted and not purged" in refusal(azd.hook("preprovision"))
    azd.cloud.state["deleted_vaults"] = []
    azd.provision()


def test_what_a_person_made_a_pipeline_goes_on_with(azd: Azd, github: dict[str, str]) -> None:
    azd.up()
    azd.cloud.state |= {"signed_in": "", "vouched": "a-vouched-token"}
    azd.outputs["POSTGRES_ADMIN"] = azd.database.administrators[1]
    azd.up(**github, PARLEY_PRINCIPAL_NAME=azd.database.administrators[1])
    assert [line.split()[0] for line in azd.cloud.asked] == ["login", "account", "account"], "each hook for itself"


@pytest.mark.parametrize("name", sorted(AZD["hooks"]))
def test_a_hook_that_asks_azure_signs_in_first(name: str) -> None:
    for command in AZD["hooks"][name]["posix"]["run"].split(" && "):
        assert (
            command.startswith("python3 infra/hooks/signed_in.py ")
            or command == "python3 infra/hooks/preflight.py deploy"
        )
        for path in re.findall(r"infra/\S+", command):
            assert Path(ROOT, path).is_file()
