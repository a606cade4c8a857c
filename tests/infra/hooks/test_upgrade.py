"""The hook before new code: it refuses what cannot go on, and says where nothing was checked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from devtools.package import FOLDER
from tests.infra.hooks.cloud import ROOT, Cloud, lines_that_never_ran

HOOK = "upgrade.py"


def test_without_histories_it_says_that_nothing_was_checked(cloud: Cloud) -> None:
    done = cloud.run(HOOK, DURABLE_BACKEND="scheduler")
    assert (done.returncode, done.stderr) == (0, "")
    assert "upgrade: not checked whether what waits goes on" in done.stdout
    assert "the histories of scheduler cannot be read from here" in done.stdout


def test_with_histories_the_deployment_ends_where_upgrade_check_does(cloud: Cloud, tmp_path: Path) -> None:
    file = tmp_path / "waiting.json"
    file.write_text(json.dumps([{"orchestration": "gone", "instance_id": "i", "events": []}]))
    assert cloud.run(HOOK, UPGRADE_HISTORIES=str(tmp_path / "none")).returncode == 2
    done = cloud.run(HOOK, UPGRADE_HISTORIES=str(file))
    # The package is whatever was built last, perhaps nothing: either way nothing is deployed.
    assert done.returncode in {1, 2}


def test_a_hub_in_azure_storage_is_read_itself_as_whoever_deploys(cloud: Cloud) -> None:
    """`tests/devtools/test_upgrade_check.py` reads one; here nobody is signed in, and what cannot be read is no yes."""
    cloud.state["refuse"] = {"account get-access-token": "ERROR: Please run 'az login' to setup account."}
    done = cloud.run(HOOK, DURABLE_BACKEND="storage", DURABLE_STORAGE="stparleytest")
    assert done.returncode == 2
    assert "upgrade-check: task hub parley: nobody is signed in: az login" in done.stderr
    assert cloud.asked == ["account get-access-token --output json --resource https://storage.azure.com"]


def test_it_runs_on_the_package_that_is_deployed() -> None:
    app = yaml.safe_load((ROOT / "azure.yaml").read_text("utf-8"))["services"]["app"]
    hook = app["hooks"]["predeploy"]["posix"]
    assert (hook["run"], hook["continueOnError"]) == (
        f"python3 infra/hooks/signed_in.py python3 infra/hooks/{HOOK}",
        False,
    )
    source = (ROOT / "infra" / "hooks" / HOOK).read_text("utf-8")
    assert f'PACKAGE = "{app["dist"]}"' in source
    assert str(FOLDER) == str(ROOT / app["dist"])


@pytest.mark.usefixtures("whole_module")
def test_every_line_of_the_hook_ran(trace: Path) -> None:
    assert lines_that_never_ran(trace, HOOK) == []
