"""What can be said without Bicep: whether the snapshots in git are of these sources, and where Bicep is looked for."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from devtools.infra import changes, check
from devtools.infra.compiler import TO_GET_IT, Compiler, CompilerError, find
from devtools.infra.deployments import FOLDER, sources_hash
from tests.support.deployed import DEV, PROD, deployed


@pytest.fixture
def infra(tmp_path: Path) -> Path:
    """A copy, to be broken."""
    return Path(shutil.copytree(FOLDER, tmp_path.resolve() / "infra"))


def test_the_snapshots_are_of_these_sources() -> None:
    assert check.stale() == []


@pytest.mark.parametrize(
    "source", ["main.bicep", "modules/data/redis.bicep", "main.parameters.json", "bicepconfig.json"]
)
def test_snapshots_of_other_sources_are_seen_without_a_compiler(infra: Path, source: str) -> None:
    assert check.stale(infra) == []
    (infra / "README.md").write_text("another page")
    assert check.stale(infra) == []

    with (infra / source).open("a") as file:
        file.write("\n")

    assert check.stale(infra) == ["infra/ changed: run ./dev infra --update"]


def test_the_hash_is_of_names_and_contents(infra: Path) -> None:
    first = sources_hash(infra)
    (infra / "modules/app/plan.bicep").rename(infra / "modules/app/plans.bicep")

    assert sources_hash(infra) != first


def test_a_change_that_azure_refuses_is_seen() -> None:
    """Without a compiler, too: on the two snapshots, as if one were to become the other."""
    token = re.compile(r"(?<=-parley-|stparley)[a-z0-9]{13}|rg-parley-\w+")
    small, large = (json.loads(token.sub("x", json.dumps(deployed(name)))) for name in (DEV, PROD))
    there, back = changes.refused(small, large), changes.refused(large, small)

    assert there == {
        "Microsoft.Cache/redisEnterprise highAvailability",
        "Microsoft.DBforPostgreSQL/flexibleServers backup.geoRedundantBackup",
        "Microsoft.KeyVault/vaults softDeleteRetentionInDays",
        "Microsoft.Storage/storageAccounts sku.name",
    }
    assert back - there == {
        "Microsoft.DBforPostgreSQL/flexibleServers storage.storageSizeGB",
        "Microsoft.KeyVault/vaults enablePurgeProtection",
    }
    assert changes.refused(small, small) == changes.left(small, small) == set()
    assert "Microsoft.Storage/storageAccounts/blobServices/containers" in changes.left(small, large)
    page = (FOLDER / "README.md").read_text("utf-8")
    assert [line for line in back if f"`{line.partition('/')[2]}`" not in page] == []


class TestWhereBicepIs:
    @pytest.fixture(autouse=True)
    def nowhere(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("BICEP", "AZURE_CONFIG_DIR", "AZD_CONFIG_DIR"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("PATH", str(tmp_path / "path"))
        monkeypatch.setenv("HOME", str(tmp_path))

    def _put(self, tmp_path: Path, place: str) -> str:
        program = tmp_path / place / "bicep"
        program.parent.mkdir(parents=True)
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
        return str(program)

    def test_each_place_goes_before_the_next(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        assert find() is None
        for place in (".azd/bin", ".azure/bin", "path"):
            program = self._put(tmp_path, place)
            assert find() == program
        monkeypatch.setenv("BICEP", self._put(tmp_path, "mine"))
        assert find() == str(tmp_path / "mine/bicep")

    def test_a_wrong_name_is_told(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("BICEP", "/nowhere/bicep")

        with pytest.raises(CompilerError, match="BICEP=/nowhere/bicep is no program"):
            find()

    def test_a_program_that_is_no_bicep_is_told(self, tmp_path: Path) -> None:
        with Compiler(self._put(tmp_path, "x")) as compiler, pytest.raises(CompilerError, match="ended, or took"):
            compiler.version()

    def test_without_one_the_command_says_how_to_get_it_and_scans(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(check, "scan", lambda: ([], "scanned"))

        assert check.main([]) == 0
        said = capsys.readouterr()
        assert said.err == f"infra: no Bicep here, so nothing is compiled; {TO_GET_IT}\n"
        assert said.out.startswith("infra: ok")
        assert "(scanned)" in said.out
        assert check.main(["--update"]) == 1
        assert "--update needs Bicep" in capsys.readouterr().err

    def test_a_finding_fails_the_command(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(check, "scan", lambda: (["CKV_1"], "scanned"))

        assert check.main([]) == 1
