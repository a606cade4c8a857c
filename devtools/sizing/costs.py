"""Monthly cost of the two sizes, without load and with load.

Input: `infra/prices.json` (Azure's unit prices with their sources), and the resources of a turn (`scale.py`).
"""

from __future__ import annotations

import json

from devtools.sizing.scale import POSTGRES_PROD_GB, ROOT, SIGNALR_PROD_UNITS, mean, measured, short, table

HOURS, DAYS = 730, 365 / 12
"""Of a month."""

# Resources in infra/main.bicep.
READY_INSTANCES, READY_GROUPS, INSTANCE_GB = 2, 2, 2
POSTGRES_DEV_GB, POSTGRES_PROD_VCORES = 32, 4
LOGS_DEV_GB, LOGS_PROD_GB = 1, 20
ENDPOINTS, ZONES = 11, 14
ALERTS_5_MINUTES, ALERTS_15_MINUTES = 5, 6
HUB_PARTITIONS = 4
"""Control queues of a hub, each polled by the instance that owns it. Every instance also polls the work-item queue."""
COUNTED_TURNS = 100_000
"""Turns per month in the last column."""
TIMER_RUNS = HOURS * (240 + 12 + 6 + 2)
"""Runs of sweep, watch, retention, and the two hourly timers; each run is billed as at least one second."""
FREE_GB_SECONDS, FREE_MILLION_EXECUTIONS = 100_000, 0.25


def costs_table() -> str:
    """The monthly cost of each size without load, and the added cost of COUNTED_TURNS turns."""
    turn, price = mean(measured()), prices()
    turns = COUNTED_TURNS
    flex = _flex(TIMER_RUNS, TIMER_RUNS)
    used_flex = _flex(TIMER_RUNS + turns * turn["functions"], TIMER_RUNS + turns * turn["work_seconds"]) - flex
    ready = READY_INSTANCES * READY_GROUPS * INSTANCE_GB * HOURS * 3_600 * price["flex_ready_gb_second"]
    actions = turns * turn["queue_messages"] * price["scheduler_action"]
    alerts = ALERTS_5_MINUTES * price["log_alert_5_minutes"] + ALERTS_15_MINUTES * price["log_alert_15_minutes"]
    hub = turns * (turn["hub_queue"] * price["queue_10k"] + turn["hub_table"] * price["table_10k"]) / 1e4
    rows: list[tuple[str, float, float, str, str]] = [
        (
            "Flex Consumption",
            flex,
            flex + ready,
            f"{_usd(used_flex)} at most",
            "the timers, nearly all the sweep · and four always-ready instances; use: each turn alone on 2 GB",
        ),
        (
            "PostgreSQL",
            HOURS * price["postgres_b1ms_hour"] + POSTGRES_DEV_GB * price["postgres_gb_month"],
            2
            * (
                HOURS * POSTGRES_PROD_VCORES * price["postgres_vcore_hour"]
                + POSTGRES_PROD_GB * price["postgres_gb_month"]
            ),
            f"{turns * turn['postgres_bytes'] / 1e9:.1f} GB",
            "B1ms, 32 GB · D4ds_v5 twice (zone standby), 256 GB; backups beyond the included size not counted",
        ),
        (
            "Managed Redis",
            HOURS * price["redis_b0_hour"],
            2 * HOURS * price["redis_b5_hour"],
            "0",
            "B0 without replica · B5 with",
        ),
        (
            "SignalR",
            0,
            SIGNALR_PROD_UNITS * DAYS * price["signalr_premium_day"],
            "0",
            "Free: 20 connections · Premium, 2 units; the messages are below a million a day",
        ),
        (
            "Durable Task Scheduler",
            0,
            price["scheduler_unit_month"],
            f"dev: {_usd(actions)} (!)",
            "Consumption: per action · Dedicated, one unit, which is not redundant (three are)",
        ),
        (
            "… or the hub in Storage",
            0,
            0,
            _usd(hub),
            "`durableBackend=storage`; polling is extra",
        ),
        (
            "logs",
            LOGS_DEV_GB * price["logs_gb"],
            LOGS_PROD_GB * price["logs_gb"],
            "in it",
            f"{LOGS_DEV_GB} GB · {LOGS_PROD_GB} GB",
        ),
        (
            "alerts",
            alerts,
            alerts,
            "0",
            f"{ALERTS_5_MINUTES} of the log every 5 minutes, {ALERTS_15_MINUTES} every 15; those of metrics are free",
        ),
        (
            "storage, vault",
            2,
            6,
            "in it",
            "from memory, rounded up",
        ),
    ]
    dev, prod = sum(row[1] for row in rows), sum(row[2] for row in rows)
    endpoints = ENDPOINTS * HOURS * price["endpoint_hour"] + ZONES * price["zone_month"]
    standard = DAYS * price["signalr_standard_day"]
    shown = [[name, _usd(a), _usd(b), use, note] for name, a, b, use, note in rows]
    shown.append(["**fixed sum**", f"**{_usd(dev)}**", f"**{_usd(prod)}**", "", ""])
    shown.append(
        [
            "`private`",
            f"+{_usd(endpoints + standard)}",
            f"+{_usd(endpoints)}",
            "0.01 a GB",
            f"{ENDPOINTS} endpoints, {ZONES} zones; the default in prod; dev also needs SignalR Standard",
        ]
    )
    shown.append(
        [
            "model",
            "",
            "",
            f"{turns * turn['input_tokens'] / 1e6:.0f} M tokens in, {turns * turn['output_tokens'] / 1e6:.0f} M out",
            "times your model's price; real conversations read ten times that",
        ]
    )
    break_even = price["scheduler_unit_month"] / (turn["queue_messages"] * price["scheduler_action"])
    note = (
        f"**Look at the Scheduler's price first**; what is published contradicts itself. At {price['scheduler_action']}"
        f" per action a turn costs"
        f" {turn['queue_messages'] * price['scheduler_action'] * 100:.1f} cents on Consumption, and from"
        f" {short(break_even)} turns a month on one Dedicated unit is cheaper."
    )
    shown_rows = table(["a month", "dev", "prod", f"{turns:,} turns add", "assumption"], shown)
    return f"{shown_rows}\n\n{note}"


def _flex(executions: float, seconds: float) -> float:
    price = prices()
    return (
        max(0.0, seconds * INSTANCE_GB - FREE_GB_SECONDS) * price["flex_gb_second"]
        + max(0.0, executions / 1e6 - FREE_MILLION_EXECUTIONS) * price["flex_million_executions"]
    )


def polling_table() -> str:
    """What polling the queues of a hub in Azure Storage costs a month, while instances run and nothing happens."""
    price = prices()["queue_10k"]

    def cost(seconds: int, instances: int) -> str:
        reads = (HUB_PARTITIONS + instances) * DAYS * 86_400 / seconds
        return f"{short(reads)}; ${reads * price / 1e4:,.2f}"

    return table(
        ["instances that run all month", "reads a month, every 30 s (the default)", "every second (as deployed)"],
        [[str(instances), cost(30, instances), cost(1, instances)] for instances in (1, 2, 10)],
    )


def prices_table() -> str:
    """Each unit price with its source."""
    found = json.loads((ROOT / "infra" / "prices.json").read_text("utf-8"))["prices"]
    rows = [
        [f"{entry['usd']:.6f}".rstrip("0").rstrip("."), entry["per"], entry["source"], entry["seen"]]
        for entry in found.values()
    ]
    return table(["US dollars", "for a", "seen", "when"], rows)


def _price(usd: float) -> str:
    return f"{usd:.6f}".rstrip("0").rstrip(".")


def prices() -> dict[str, float]:
    """Azure's unit prices in US dollars, by name."""
    found = json.loads((ROOT / "infra" / "prices.json").read_text("utf-8"))["prices"]
    return {name: float(entry["usd"]) for name, entry in found.items()}


def _usd(value: float) -> str:
    return f"{value:.0f}" if value >= 1 or value == 0 else f"{value:.1f}"
