"""The security, operations and deployment pages name tests and files that exist, and numbers that were measured."""

from __future__ import annotations

import re
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from devhost.timers.ncrontab import Schedule, parse_schedule
from devtools.chaos.invariants import INVARIANTS
from devtools.figures import BLOCK, PAGES, TABLES, filled
from devtools.sizing import costs, memory, scale
from tests.support.deployed import DEV, PROD, all_of, app_settings, one

ROOT = Path(__file__).parents[2]
TESTS = ROOT / "tests"
NAMED = re.compile(r"`((?:\w+/)+test_\w+|…)(?:::(\w+))?`")


def test_every_test_the_security_page_names_exists() -> None:
    last, found = "", 0
    for file, name in NAMED.findall((ROOT / "docs/security.md").read_text("utf-8")):
        last = last if file == "…" else file
        path = TESTS / f"{last}.py"
        assert path.is_file(), last
        found += 1
        if name:
            assert re.search(rf"(?:def|class) {name}\b", path.read_text("utf-8")), f"{last}::{name}"
    assert found > 60


def test_every_row_of_the_security_page_names_a_test_or_says_why_there_is_none() -> None:
    lines = (ROOT / "docs/security.md").read_text("utf-8").splitlines()
    heads = {n - 1 for n, line in enumerate(lines) if line.startswith("| ---")}
    rows = [line for n, line in enumerate(lines) if line.startswith("| ") and n not in heads | {h + 1 for h in heads}]

    assert len(rows) > 60
    assert [row for row in rows if not (NAMED.search(row) or re.search(r"\bnot covered\b[^|]*, because ", row))] == []
    assert [row for row in rows if not all(cell.strip() for cell in row.strip("|").split("|")[1:])] == []


def test_every_test_the_reliability_page_names_exists_and_every_fault_and_promise_is_in_it() -> None:
    page = (ROOT / "docs/reliability.md").read_text("utf-8")
    files = {file for file, _ in NAMED.findall(page)}

    assert len(files) > 15
    assert [file for file in files if not (TESTS / f"{file}.py").is_file()] == []
    faults = page.split("## Which fault costs what")[1].split("\n## ")[0]
    rows = [line for line in faults.splitlines() if line.startswith("| ")][2:]
    assert [row for row in rows if not NAMED.search(row.split(" | ")[-1])] == []
    promised = page.split("## What is promised")[1].split("\n## ")[0]
    assert re.findall(r"^\| `(\w+)` \|", promised, re.M) == [check.__name__ for check in INVARIANTS]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_every_computed_table_is_what_the_script_computes(path: Path) -> None:
    page = path.read_text("utf-8")

    assert page.count("<!-- figures: ") == len(BLOCK.findall(page)) > 0
    assert filled(page) == page, "run python -m devtools.figures"


def test_every_table_stands_on_a_page() -> None:
    assert {block[1] for path in PAGES for block in BLOCK.finditer(path.read_text("utf-8"))} == set(TABLES)


def test_the_costs_are_those_of_what_is_bought() -> None:
    def plan(name: str) -> dict[str, Any]:
        server, cache = (
            one(name, "Microsoft.DBforPostgreSQL/flexibleServers"),
            one(name, "Microsoft.Cache/redisEnterprise"),
        )
        live, logs = (
            one(name, "Microsoft.SignalRService/signalR"),
            one(name, "Microsoft.OperationalInsights/workspaces")["properties"],
        )
        return {
            "database": (server["sku"]["name"], server["properties"]["storage"]["storageSizeGB"]),
            "standby": server["properties"]["highAvailability"]["mode"],
            "redis": (cache["sku"]["name"], cache["properties"]["highAvailability"]),
            "signalr": (live["sku"]["name"], live["sku"]["capacity"]),
            "logs": logs["workspaceCapping"]["dailyQuotaGb"],
        }

    assert plan(DEV) == {
        "database": ("Standard_B1ms", costs.POSTGRES_DEV_GB),
        "standby": "Disabled",
        "redis": ("Balanced_B0", "Disabled"),
        "signalr": ("Free_F1", 1),
        "logs": costs.LOGS_DEV_GB,
    }
    assert plan(PROD) == {
        "database": (f"Standard_D{costs.POSTGRES_PROD_VCORES}ds_v5", scale.POSTGRES_PROD_GB),
        "standby": "ZoneRedundant",
        "redis": ("Balanced_B5", "Enabled"),
        "signalr": ("Premium_P1", scale.SIGNALR_PROD_UNITS),
        "logs": costs.LOGS_PROD_GB,
    }
    app = one(PROD, "Microsoft.Web/sites")["properties"]["functionAppConfig"]["scaleAndConcurrency"]
    assert [group["instanceCount"] for group in app["alwaysReady"]] == [costs.READY_INSTANCES] * costs.READY_GROUPS
    assert app["instanceMemoryMB"] == costs.INSTANCE_GB * 1024
    assert app["triggers"]["http"]["perInstanceConcurrency"] == memory.REQUESTS_AT_ONCE
    assert app_settings(PROD)["FUNCTIONS_REQUEST_BODY_SIZE_LIMIT"] == str(memory.BODY_LIMIT_BYTES)
    assert one(PROD, "Microsoft.DurableTask/schedulers")["properties"]["sku"] == {"name": "Dedicated", "capacity": 1}
    assert len(all_of(PROD, "Microsoft.Network/privateEndpoints")) == costs.ENDPOINTS
    rules = all_of(PROD, "Microsoft.Insights/scheduledQueryRules")
    assert Counter(rule["properties"]["evaluationFrequency"] for rule in rules) == {
        "PT5M": costs.ALERTS_5_MINUTES,
        "PT15M": costs.ALERTS_15_MINUTES,
    }
    assert len(all_of(PROD, "Microsoft.Network/privateDnsZones")) == costs.ZONES
    model = one(PROD, "Microsoft.CognitiveServices/accounts/deployments")
    assert model["sku"]["capacity"] == scale.MODEL_TOKENS_MINUTE // 1_000


def test_the_timers_that_are_paid_for_are_those_there_are() -> None:
    schedules = [
        parse_schedule(text)
        for path in sorted((ROOT / "triggers").rglob("*.py"))
        for text in re.findall(r'schedule="([^"]+)"', path.read_text("utf-8"))
    ]
    start = datetime(2026, 1, 1, tzinfo=UTC)

    def runs_of_a_day(schedule: Schedule) -> int:
        count, moment = 0, schedule.next_after(start - timedelta(seconds=1))
        while moment is not None and moment < start + timedelta(days=1):
            count, moment = count + 1, schedule.next_after(moment)
        return count

    assert sum(runs_of_a_day(schedule) for schedule in schedules) * costs.HOURS / 24 == costs.TIMER_RUNS


def test_the_operations_page_says_of_every_alert_what_to_do() -> None:
    kinds = ("Microsoft.Insights/scheduledQueryRules", "Microsoft.Insights/metricAlerts")
    named = {re.sub(r"^parley-|-\w+$", "", alert["name"]) for kind in kinds for alert in all_of(PROD, kind)}
    section = (ROOT / "docs/operations.md").read_text("utf-8").split("## Alerts")[1].split("\n## ")[0]
    rows = [row.split(" | ")[0].removeprefix("| ") for row in section.splitlines() if row.startswith("| ")][2:]

    told = {name for row in rows for name in row.split(", ")} - {"budget"}
    assert {f"database{name}" if name.startswith("-") else name for name in told} == named


def test_the_pages_name_the_environment_variables_that_reach_the_deployment() -> None:
    taken = set(re.findall(r"\$\{(PARLEY_\w+)", (ROOT / "infra/main.parameters.json").read_text("utf-8")))
    told = {
        name
        for page in ("docs/operations.md", "infra/README.md")
        for name in re.findall(r"\bPARLEY_[A-Z_*]+", (ROOT / page).read_text("utf-8"))
    }

    patterns = {name: re.compile(name.replace("*", "[A-Z_]+")) for name in told}
    assert [name for name, pattern in patterns.items() if not any(map(pattern.fullmatch, taken))] == []
    assert [one for one in taken if not any(pattern.fullmatch(one) for pattern in patterns.values())] == []


@pytest.mark.parametrize("page", ["docs/operations.md", "infra/README.md", "orchestrators/README.md"])
def test_every_file_a_page_of_operations_names_exists(page: str) -> None:
    named = re.findall(
        r"`((?:tests|infra|docs|devtools|shared|triggers)/[\w./-]+\.\w+)`", (ROOT / page).read_text("utf-8")
    )

    assert named
    assert [name for name in named if not (ROOT / name).exists()] == []
