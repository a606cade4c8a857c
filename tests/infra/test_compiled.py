"""What Bicep says of `infra/`: no finding, the snapshots in git are current, and what a switch asks of what exists.

Skipped where there is no Bicep: then `test_snapshots.py` tells whether the sources are those that it has seen.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from devtools.infra import changes, check
from devtools.infra.compiler import Compiler, CompilerError, Resource, find
from devtools.infra.deployments import CHOICES, COMMITTED, FOLDER, SNAPSHOTS, SOURCES, Choice, evaluate, stored
from devtools.infra.invariants import ENTRANCES, at
from tests.support.deployed import DEV, FOR_PEOPLE, PROD, app_settings, one, spare_connections

SCHEDULER, SIGNALR = "Microsoft.DurableTask/schedulers", "Microsoft.SignalRService/signalR"

PROGRAM = find()
if PROGRAM is None:
    pytest.skip("no Bicep here; ./dev infra says how to get it", allow_module_level=True)


@pytest.fixture(scope="module")
def bicep() -> Iterator[Compiler]:
    assert PROGRAM
    with Compiler(PROGRAM) as compiler:
        yield compiler


@pytest.fixture(scope="module")
def linted(bicep: Compiler) -> tuple[list[str], dict[str, Any]]:
    return check.lint(bicep)


@pytest.fixture(scope="module")
def deployments(bicep: Compiler, linted: tuple[list[str], dict[str, Any]]) -> dict[Choice, list[Resource]]:
    return {choice: evaluate(bicep, linted[1], choice.variables()) for choice in check.DEPLOYMENTS}


@pytest.fixture
def infra(tmp_path: Path) -> Path:
    """A copy, to be broken."""
    return Path(shutil.copytree(FOLDER, tmp_path.resolve() / "infra"))


def _edit(file: Path, old: str, new: str) -> None:
    text = file.read_text("utf-8")
    assert old in text
    file.write_text(text.replace(old, new, 1), "utf-8")


WARNED_OF = [
    ("main.bicep", "var tags =", "var unused = 1\nvar tags =", "no-unused-vars"),
    ("main.bicep", "param budgetStart string = ''", "param budgetStart string = utcNow('yyyy-MM-01')", "utcNow"),
    (
        "modules/data/storage.bicep",
        "= account.id",
        "= account.listKeys().keys[0].value",
        "outputs-should-not-contain",
    ),
]
REFUSED = [
    ("main.bicep", "  params: { name: 'id-parley-${token}',", "  params: {", "BCP035"),
    ("main.bicep", "identity.outputs.name\n", "identity.outputs.names\n", "BCP083"),
    ("modules/data/redis.bicep", "minimumTlsVersion:", "minimumTlsVersions:", "BCP089"),
    ("modules/data/redis.bicep", "port: 10000", "port: '10000'", "BCP036"),
    ("modules/data/vault.bicep", "output id string = vault.id", "output id int = vault.id", "BCP033"),
]
"""Mistakes: the file, what it says, what it says then, what is said of that. A template comes of the former only."""


@pytest.fixture(scope="module")
def mistaken(bicep: Compiler, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What is found in two copies with all mistakes of a kind: a compilation takes seconds, and none hides another."""
    found = []
    for mistakes in (WARNED_OF, REFUSED):
        infra = Path(shutil.copytree(FOLDER, tmp_path_factory.mktemp("mistaken").resolve() / "infra"))
        for file, old, new, _ in mistakes:
            _edit(infra / file, old, new)
        found += check.lint(bicep, infra)[0]
    return found


@pytest.mark.parametrize(("file", "said"), [(file, said) for file, _, _, said in [*WARNED_OF, *REFUSED]])
def test_a_mistake_is_found(mistaken: list[str], file: str, said: str) -> None:
    assert any(said in line and line.startswith(file) for line in mistaken), mistaken


def test_nothing_is_found_by_compiler_and_linter(linted: tuple[list[str], dict[str, Any]]) -> None:
    assert linted[0] == []


def test_the_snapshots_are_what_the_sources_evaluate_to(
    bicep: Compiler, linted: tuple[list[str], dict[str, Any]]
) -> None:
    for name, text in check.committed(bicep, linted[1]).items():
        assert text == (FOLDER / SNAPSHOTS / f"{name}.json").read_text("utf-8"), check.STALE


def test_nothing_is_wrong_with_any_deployment(deployments: dict[Choice, list[Resource]]) -> None:
    assert {len(choice.name) for choice in CHOICES} == {3, 40}
    assert len({choice[:3] for choice in CHOICES}) == 8
    assert check.wrong(deployments) == []


def test_what_the_snapshots_do_not_show_is_right_too(deployments: dict[Choice, list[Resource]]) -> None:
    assert [choice for choice, resources in deployments.items() if spare_connections(resources) < FOR_PEOPLE] == []
    # As priced by devtools/sizing/costs.py.
    public, private = (deployments[Choice("dev", private, "scheduler")] for private in (False, True))
    assert one(public, SCHEDULER)["properties"]["sku"] == {"name": "Consumption"}
    assert one(private, SIGNALR)["sku"]["name"] == "Standard_S1"


@pytest.mark.parametrize(("size", "also"), [("dev", {"POSTGRES_POOL_SIZE"}), ("prod", set())])
def test_the_backends_differ_in_the_settings_that_the_page_names(
    deployments: dict[Choice, list[Resource]], size: str, also: set[str]
) -> None:
    one_way, other = (app_settings(deployments[Choice(size, True, backend)]) for backend in ("scheduler", "storage"))
    prefix = "AzureFunctionsJobHost__extensions__durableTask__storageProvider__"

    assert {name for name in one_way.keys() | other.keys() if one_way.get(name) != other.get(name)} == also | {
        f"{prefix}type",
        f"{prefix}connectionStringName",
        "DURABLE_TASK_SCHEDULER_CONNECTION_STRING",
    }


def test_a_public_app_opens_nothing_else(deployments: dict[Choice, list[Resource]]) -> None:
    [resources] = [resources for choice, resources in deployments.items() if choice.public_app]

    assert {each["type"] for each in resources if at(each, "publicNetworkAccess") == "Enabled"} == ENTRANCES


def test_a_module_that_nothing_uses_is_found(bicep: Compiler, infra: Path) -> None:
    (infra / "modules/data/spare.bicep").write_text("param wrong string\n")

    assert check.lint(bicep, infra)[0] == ["modules/data/spare.bicep: main.bicep does not reach it"]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"size": {', '"sise": {', "BCP259"),
        ('"principalId": { "value": "${AZURE_PRINCIPAL_ID}" },', "", "BCP258"),
        ("${PARLEY_SIZE=dev}", "${PARLEY_SIZES=huge}", "BCP033"),
        ("${AZURE_LOCATION}", "${AZURE_PLACE}", "AZURE_PLACE"),
    ],
)
def test_parameters_that_the_template_does_not_take_are_found(
    bicep: Compiler, linted: tuple[list[str], dict[str, Any]], infra: Path, old: str, new: str, said: str
) -> None:
    _edit(infra / "main.parameters.json", old, new)

    with pytest.raises(CompilerError, match=said):
        evaluate(bicep, linted[1], CHOICES[0].variables(), infra)


def test_an_update_shows_what_changes(
    bicep: Compiler, infra: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(check, "DEPLOYMENTS", CHOICES[:1])
    before = {name: (infra / SNAPSHOTS / f"{name}.json").read_text("utf-8").splitlines() for name in COMMITTED}
    assert check.check(bicep, infra) == []
    _edit(infra / "main.bicep", "postgresGeoBackup: 'Disabled'", "postgresGeoBackup: 'Enabled'")

    assert check.check(bicep, infra) == [check.STALE]
    assert check.check(bicep, infra, update=True) == []

    after = {name: (infra / SNAPSHOTS / f"{name}.json").read_text("utf-8").splitlines() for name in COMMITTED}
    assert after[PROD] == before[PROD]
    assert [(old, new) for old, new in zip(before[DEV], after[DEV], strict=True) if old != new] == [
        (
            '      "backup": {"backupRetentionDays": 7, "geoRedundantBackup": "Disabled"},',
            '      "backup": {"backupRetentionDays": 7, "geoRedundantBackup": "Enabled"},',
        )
    ]
    assert "Azure refuses to change this on what exists: Microsoft.DBforPostgreSQL" in capsys.readouterr().err
    assert check.check(bicep, infra) == []


def test_another_bicep_with_another_answer_is_named(
    bicep: Compiler, infra: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check, "DEPLOYMENTS", ())
    _edit(infra / SOURCES, f" {bicep.version()}", " 0.1.0")
    assert check.check(bicep, infra) == [], "the same answer"
    _edit(infra / SNAPSHOTS / f"{DEV}.json", '"version": "17"', '"version": "16"')

    [line] = check.check(bicep, infra)
    assert line.startswith(f"Bicep {bicep.version()} evaluates to other snapshots than those of Bicep 0.1.0 in git")


def test_nothing_is_written_while_an_invariant_objects(
    bicep: Compiler, infra: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check, "DEPLOYMENTS", CHOICES[:1])
    _edit(infra / "modules/services/signalr.bicep", "disableLocalAuth: true", "disableLocalAuth: false")

    found = check.check(bicep, infra, update=True)

    assert ["disableLocalAuth is False" in line for line in found] == [True]
    assert stored(DEV, infra) == stored(DEV)
    assert check.stale(infra) == [check.STALE]


def test_one_service_is_asked_for_one_change_at_a_time(linted: tuple[list[str], dict[str, Any]]) -> None:
    """PostgreSQL and the private link scope refuse a second change while they make one."""

    def waits(template: dict[str, Any], kind: str) -> list[set[str]]:
        each = [resource for resource in _resources(template) if resource["type"] == kind]
        return [{other.partition(",")[0] + other[-30:] for other in resource.get("dependsOn", [])} for resource in each]

    rules = waits(linted[1], "Microsoft.DBforPostgreSQL/flexibleServers/firewallRules")
    assert any("azure-addresses" in name for name in rules[1])
    scoped = waits(linted[1], "Microsoft.Insights/privateLinkScopes/scopedResources")
    assert any("'logs'" in name for name in scoped[1])


def _resources(template: dict[str, Any]) -> Iterator[dict[str, Any]]:
    listed = template["resources"]
    for resource in listed.values() if isinstance(listed, dict) else listed:
        yield resource
        if resource["type"] == "Microsoft.Resources/deployments":
            yield from _resources(resource["properties"]["template"])


def _cell(found: set[str]) -> str:
    """Short types, without the parts of what is named anyway."""
    kinds = {line.split()[0].lower() for line in found}
    return ", ".join(
        sorted(
            f"`{line.partition('/')[2] if ' ' in line else line.rpartition('/')[2]}`"
            for line in found
            if " " in line or line.split()[0].lower().rpartition("/")[0] not in kinds
        )
    )


@pytest.mark.parametrize(
    ("switch", "field", "before", "after"),
    [
        ("`size` from `dev` to `prod`", "size", "dev", "prod"),
        ("`size` from `prod` to `dev`", "size", "prod", "dev"),
        ("`private` on", "private", False, True),
        ("`private` off", "private", True, False),
        ("`durableBackend` to `storage`", "durable", "scheduler", "storage"),
        ("`durableBackend` to `scheduler`", "durable", "storage", "scheduler"),
    ],
)
def test_the_page_says_what_a_switch_cannot_change(
    deployments: dict[Choice, list[Resource]], switch: str, field: str, before: Any, after: Any
) -> None:
    refused: set[str] = set()
    left: set[str] = set()
    for choice in CHOICES:
        if getattr(choice, field) == before:
            pair = deployments[choice], deployments[choice._replace(**{field: after})]
            refused |= changes.refused(*pair)
            left |= changes.left(*pair)

    row = f"| {switch} | {_cell(refused) or 'nothing'} | {_cell(left) or 'nothing'} |"
    assert row in (FOLDER / "README.md").read_text("utf-8"), row
