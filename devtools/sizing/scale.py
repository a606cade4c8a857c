"""The resources that Parley uses: per turn, per day by number of sessions, and the limits.

Input: `docs/measured-turn.json`, written by `devtools.measure_turn`. All assumptions are named constants here.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from devtools.setup.places import ROOT as _ROOT

ROOT = Path(_ROOT)

# Assumed usage. ---------------------------------------------------------------------------------
MIX = {"answer": 0.5, "one tool": 0.4, "approved tool": 0.1}
"""Share of each kind of turn."""
PAUSES = {"approved tool": 1, "client tool": 1, "later result": 1}
"""How often a turn waits for somebody or something outside of the app."""
TURNS_OF_SESSION = 4
BUSIEST_HOUR = 0.1
"""Share of a day's turns in the busiest hour."""
LISTENING_MINUTES = 20
SESSIONS = (10, 1_000, 10_000, 100_000, 1_000_000)
"""Sessions per day; the first is one user."""

# Limits of Azure. -------------------------------------------------------------------------------
HUB_QUEUE_REQUESTS, HUB_EPISODE_REQUESTS, HUB_START_REQUESTS = 3, 3, 2
"""Storage transactions of DurableTask.AzureStorage: a message is put, got and deleted; an episode reads the history,
writes it as one batch and merges the instance's row; starting an instance looks it up and inserts it."""
SIGNALR_FREE_MESSAGES = 20_000
SIGNALR_UNIT_MESSAGES, SIGNALR_UNIT_CONNECTIONS = 1_000_000, 1_000
SCHEDULER_CONSUMPTION, SCHEDULER_UNIT = 500, 2_000
"""Actions per second."""
MODEL_TOKENS_MINUTE = 100_000
"""`modelCapacity` of infra/main.bicep, in tokens."""
REDIS_B0, REDIS_B5 = 0.5e9, 6e9

SIGNALR_PROD_UNITS, POSTGRES_PROD_GB = 2, 256
"""As in infra/main.bicep for `prod`."""

type Turn = dict[str, float]


_BY_LISTENER = ("functions", "functions_relay", "redis_commands", "redis_bytes_of_keys", "events", "work_seconds")
"""What a SignalR listener makes more of."""


def measured() -> dict[str, Turn]:
    """The counts per kind of turn that somebody hears through SignalR, with values derived from them."""
    found = json.loads((ROOT / "docs" / "measured-turn.json").read_text("utf-8"))
    kinds: dict[str, Turn] = found["per_turn"]
    for kind, turn in kinds.items():
        turn |= {f"unheard_{name}": turn[name] for name in _BY_LISTENER}
        turn |= {name: found["per_turn_heard"][kind][name] for name in _BY_LISTENER}
        turn["hub_queue"] = HUB_QUEUE_REQUESTS * turn["queue_messages"]
        turn["hub_table"] = HUB_EPISODE_REQUESTS * turn["orchestrator_episodes"] + HUB_START_REQUESTS
        turn["storage"] = turn["hub_queue"] + turn["hub_table"] + turn["storage_requests_of_app"]
        turn["pauses"] = PAUSES.get(kind, 0)
        turn["tokens"] = turn["input_tokens"] + turn["output_tokens"]
    return kinds


def mean(kinds: dict[str, Turn]) -> Turn:
    """The average turn, weighted by MIX."""
    return {name: sum(part * kinds[kind][name] for kind, part in MIX.items()) for name in kinds["answer"]}


def measured_table() -> str:
    """The resources of one turn."""
    kinds = measured()
    columns = [kinds[kind] for kind in MIX] + [mean(kinds)]
    head = ["", *MIX, "mean"]
    return table(head, [[name, *(show(turn) for turn in columns)] for name, show in _ROWS])


def waits_table() -> str:
    """The resources of one turn that waits, by what it waits for. Those of a subagent's turn are in its caller's."""
    kinds = measured()
    waits = [kind for kind in kinds if kind not in MIX]
    return table(["", *waits], [[name, *(show(kinds[kind]) for kind in waits)] for name, show in _ROWS])


def _hub(turn: Turn) -> str:
    return f"{turn['hub_queue'] + turn['hub_table']:.0f}"


_ROWS: list[tuple[str, Callable[[Turn], str]]] = [
    (
        "function executions (of them relay calls)",
        lambda turn: f"{turn['functions']:.1f} ({turn['functions_relay']:.1f})",
    ),
    ("the same where nobody listens through SignalR", lambda turn: f"{turn['unheard_functions']:.1f}"),
    ("seconds of work in them, together", lambda turn: f"{turn['work_seconds']:.1f}"),
    ("durable actions: messages to orchestrations and activities", lambda turn: f"{turn['queue_messages']:.1f}"),
    (
        "durable episodes; history events",
        lambda turn: f"{turn['orchestrator_episodes']:.1f}; {turn['history_events']:.1f}",
    ),
    ("storage requests of the app (audit lines)", lambda turn: f"{turn['storage_requests_of_app']:.1f}"),
    ("*derived:* storage transactions of a hub in Storage", _hub),
    ("SignalR messages to each listener", lambda turn: f"{turn['events']:.1f}"),
    ("Redis commands, those inside scripts too", lambda turn: f"{turn['redis_commands']:.1f}"),
    ("the same where nobody listens", lambda turn: f"{turn['unheard_redis_commands']:.1f}"),
    ("PostgreSQL transactions", lambda turn: f"{turn['postgres_transactions']:.1f}"),
    ("PostgreSQL KB", lambda turn: f"{turn['postgres_bytes'] / 1e3:.1f}"),
    ("Redis KB, kept a day", lambda turn: f"{turn['redis_bytes_of_keys'] / 1e3:.1f}"),
    ("tokens in / out", lambda turn: f"{turn['input_tokens']:.0f} / {turn['output_tokens']:.0f}"),
]


def scale_table() -> str:
    """The resources of a day, by sessions per day."""
    turn = mean(measured())

    def row(name: str, show: Callable[[float, float], str]) -> list[str]:
        """show: takes turns per day and turns per second in the busiest hour."""
        days = [TURNS_OF_SESSION * sessions for sessions in SESSIONS]
        return [name, *(show(turns, turns * BUSIEST_HOUR / 3_600) for turns in days)]

    def units(turns: float, connections: float) -> str:
        messages = turns * turn["events"]
        needed = max(messages / SIGNALR_UNIT_MESSAGES, connections / SIGNALR_UNIT_CONNECTIONS)
        free = messages <= SIGNALR_FREE_MESSAGES and connections <= 20
        return "Free" if free else f"{int(needed) + 1:,}"

    def listening(turns: float) -> float:
        return turns / TURNS_OF_SESSION * BUSIEST_HOUR * LISTENING_MINUTES / 60

    return table(
        ["sessions a day", *(f"{sessions:,}" for sessions in SESSIONS)],
        [
            row("turns; peak a second", lambda turns, peak: f"{turns:,}; {short(peak)}"),
            row("function executions", lambda turns, _: short(turns * turn["functions"])),
            row(
                "durable actions; peak a second",
                lambda turns, peak: f"{short(turns * turn['queue_messages'])}; {short(peak * turn['queue_messages'])}",
            ),
            row("storage transactions (hub in Storage)", lambda turns, _: short(turns * turn["storage"])),
            row("storage transactions (Scheduler)", lambda turns, _: short(turns * turn["storage_requests_of_app"])),
            row(
                "SignalR messages; connections; units",
                lambda turns, _: (
                    f"{short(turns * turn['events'])}; {short(listening(turns))}; {units(turns, listening(turns))}"
                ),
            ),
            row(
                "Redis memory: a day's buffer (an hour's)",
                lambda turns, _: (
                    f"{_bytes(turns * turn['redis_bytes_of_keys'])}"
                    f" ({_bytes(turns * turn['redis_bytes_of_keys'] * BUSIEST_HOUR)})"
                ),
            ),
            row(
                "PostgreSQL growth; peak transactions/s",
                lambda turns, peak: (
                    f"{_bytes(turns * turn['postgres_bytes'])}; {short(peak * turn['postgres_transactions'])}"
                ),
            ),
            row(
                "tokens in / out; peak a minute",
                lambda turns, peak: (
                    f"{short(turns * turn['input_tokens'])} / {short(turns * turn['output_tokens'])};"
                    f" {short(peak * 60 * turn['tokens'])}"
                ),
            ),
        ],
    )


def limits_table() -> str:
    """The number of sessions per day at which each limit is reached, lowest first."""
    turn = mean(measured())

    def by_day(limit: float, each: str) -> float:
        return limit / (TURNS_OF_SESSION * turn[each])

    def by_second(limit: float, each: str) -> float:
        return limit * 3_600 / BUSIEST_HOUR / (TURNS_OF_SESSION * turn[each])

    limits = [
        (by_day(SIGNALR_FREE_MESSAGES, "events"), "SignalR Free: 20,000 messages a day", "take a unit"),
        (
            by_second(MODEL_TOKENS_MINUTE / 60, "tokens"),
            "the model's quota: 100,000 tokens a minute",
            "raise `modelCapacity`, long before: real conversations read ten times these tokens",
        ),
        (by_day(REDIS_B0, "redis_bytes_of_keys"), "Redis B0: 0.5 GB hold a day's events", "`EVENT_BUFFER_SECONDS`, B1"),
        (
            by_day(REDIS_B5, "redis_bytes_of_keys"),
            "Redis B5: 6 GB",
            "`EVENT_BUFFER_SECONDS` of an hour: ten times that",
        ),
        (
            by_day(SIGNALR_PROD_UNITS * SIGNALR_UNIT_MESSAGES, "events"),
            f"SignalR, {SIGNALR_PROD_UNITS} units: a million messages each a day, then they cost extra",
            "more units",
        ),
        (by_second(SCHEDULER_CONSUMPTION, "queue_messages"), "Scheduler Consumption: 500 actions/s", "Dedicated"),
        (
            by_second(SCHEDULER_UNIT, "queue_messages"),
            "Scheduler, one Dedicated unit: 2,000 actions/s",
            "up to three units; then several task hubs",
        ),
        (
            by_day(POSTGRES_PROD_GB * 1e9 / 90, "postgres_bytes"),
            f"PostgreSQL: {POSTGRES_PROD_GB} GB hold 90 days",
            "`SESSION_RETENTION_DAYS`, more storage",
        ),
    ]
    return table(
        ["at sessions a day", "limit", "then"], [[short(at), limit, then] for at, limit, then in sorted(limits)]
    )


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def short(value: float) -> str:
    """A number with two or three significant digits."""
    for unit, size in (("B", 1e9), ("M", 1e6)):
        if value >= size:
            return f"{value / size:.1f} {unit}"
    return f"{float(f'{value:.2g}'):,.0f}" if value >= 10 else f"{value:.2g}"


def _bytes(value: float) -> str:
    unit, size = ("GB", 1e9) if value >= 1e8 else ("MB", 1e6)
    return f"{float(f'{value / size:.2g}'):g} {unit}"
