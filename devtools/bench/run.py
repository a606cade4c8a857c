"""One run: start servers, fake model, load generator and contenders; measure all rounds; stop everything.

Each round goes through all cases and, in each case, through all contenders, so that a slow minute of the machine
affects all alike. Every other round takes the contenders in reverse order.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from devhost.servers import Azurite, Postgres, Server, Valkey, enter_all
from devtools.bench.contender import Contender, Entry, FastModel, make_database
from devtools.bench.figures.results import CaseResult, GrowthResult, Round, growth_of, round_of
from devtools.bench.figures.usage import MIB, Usage, usage_of
from devtools.bench.load.loader import Loader, Measured
from devtools.bench.plan import Case, Plan

type Say = Callable[[str], None]
_WARM_UP_S = 2.0


@dataclass(frozen=True, slots=True)
class Bench:
    """Everything that runs."""

    contenders: tuple[Contender, ...]
    postgres: Postgres
    servers: tuple[Server, ...]
    model: FastModel
    loader: Loader
    tools: list[dict[str, object]]

    def groups(self, contender: Contender) -> dict[str, int]:
        """Process groups by name: the contender's host, each server, the model, the load generator."""
        pids = {server.name: server.pid for server in (contender, *self.servers, self.model)}
        return {name: pid for name, pid in pids.items() if pid is not None} | {"load": self.loader.pid}

    async def measure(self, case: Case, contender: Contender, watch: str) -> Measured:
        order = self._order("turns", case) | {"app_url": contender.url, "watch": watch}
        groups = self.groups(contender)
        measured = await self.loader.order(order, lambda: usage_of(groups))
        contender.check_alive()
        return measured

    async def measure_bare(self, case: Case, seconds: float) -> Measured:
        order = self._order("bare", case)
        # A bare turn of the realistic model is as slow as ours; a few are enough, since they hardly vary.
        order["seconds"] = max(seconds, 2.0) if case.workload == "realistic" else seconds
        order["max_turns"] = 10_000
        return await self.loader.order(order, _no_usage)

    async def measure_growth(self, plan: Plan, contender: Contender) -> Mapping[str, Any]:
        assert plan.growth is not None
        order = {
            **{"do": "growth", "workload": "W1", "tools": self.tools, "model_url": self.model.url},
            **{"sessions": plan.growth.sessions, "turns": plan.growth.turns, "pairs": plan.growth.pairs},
            **{"app_url": contender.url, "watch": plan.watch},
        }
        measured = await self.loader.order(order, _no_usage)
        contender.check_alive()
        return measured.samples

    def _order(self, what: str, case: Case) -> dict[str, Any]:
        return {
            **{"do": what, "workload": case.workload, "sessions": case.sessions, "seconds": case.seconds},
            **{"max_turns": case.max_turns, "tools": self.tools, "model_url": self.model.url},
        }


def _no_usage() -> dict[str, Usage]:
    return {}


@contextlib.asynccontextmanager
async def running(
    folder: Path,
    entries: Mapping[str, Entry],
    say: Say,
    *,
    statistics: bool = False,
    load_environment: Mapping[str, str] | None = None,
) -> AsyncIterator[Bench]:
    """Start everything in `folder`. entries: by label. statistics: PostgreSQL counts what each statement costs.
    load_environment: of the load generator, beside this process's.

    Raises ServerError.
    """

    def report(name: str, text: str) -> None:
        say(f"  {name}: {text}")

    async with contextlib.AsyncExitStack() as stack:
        postgres = Postgres(folder / "postgres", statistics=statistics, report=report)
        valkey = Valkey(folder / "valkey", report=report)
        azurite = Azurite(folder / "azurite", report=report)
        model = FastModel(folder / "model", report=report)
        loader = await stack.enter_async_context(Loader(load_environment))
        await enter_all(stack, [postgres, valkey, azurite, model])
        contenders = []
        for number, (label, entry) in enumerate(entries.items()):
            settings = {
                "POSTGRES_URL": await make_database(postgres, number),
                "REDIS_URL": valkey.url.rpartition("/")[0] + f"/{number}",
                "AzureWebJobsStorage": azurite.url,
                "OPENAI_BASE_URL": model.url,
                "TOOLS_HTTP_ALLOW": loader.sink,
            }
            contender = entry.contender(label, folder / f"host{number}", settings=settings, report=report)
            contenders.append(await stack.enter_async_context(contender))
        tools = await contenders[0].tools()
        yield Bench(tuple(contenders), postgres, (postgres, valkey, azurite), model, loader, tools)


@dataclass(slots=True)
class Outcome:
    """All results of a run."""

    cases: list[CaseResult] = field(default_factory=list)
    growth: list[GrowthResult] = field(default_factory=list)
    idle_mib: dict[str, dict[str, float]] = field(default_factory=dict)
    """Memory by contender and group after start-up, before any turn."""


async def carry_out(bench: Bench, plan: Plan, say: Say) -> Outcome:
    """Warm up, then measure all rounds."""
    outcome = Outcome()
    for contender in bench.contenders:
        usage = usage_of(bench.groups(contender))
        outcome.idle_mib[contender.label] = {name: round(used.memory / MIB, 1) for name, used in usage.items()}
    await _warm_up(bench, plan)
    rounds: dict[tuple[str, Case], list[Round]] = {}
    grown: dict[str, list[Mapping[str, Any]]] = {}
    for number in range(plan.rounds):
        order = bench.contenders if number % 2 == 0 else bench.contenders[::-1]
        for case in plan.cases:
            bare = await bench.measure_bare(case, plan.bare_seconds)
            for contender in order:
                measured = await bench.measure(case, contender, plan.watch)
                one = round_of(measured, bare)
                rounds.setdefault((contender.label, case), []).append(one)
                say(f"  round {number + 1}/{plan.rounds}  {case.name:<13} {contender.label:<10} {_brief(one)}")
        if plan.growth is not None and number == 0:
            for contender in order:
                grown.setdefault(contender.label, []).append(await bench.measure_growth(plan, contender))
    outcome.cases = [
        CaseResult(contender.label, case, tuple(rounds[contender.label, case]))
        for case in plan.cases
        for contender in bench.contenders
    ]
    if plan.growth is not None:
        outcome.growth = [growth_of(label, plan.growth.turns + 1, runs) for label, runs in grown.items()]
    return outcome


async def _warm_up(bench: Bench, plan: Plan) -> None:
    """Fill imports, pools and caches; the results are discarded."""
    for workload in dict.fromkeys(case.workload for case in plan.cases if case.workload != "realistic") or ("W1",):
        for contender in bench.contenders:
            await bench.measure(Case(workload, 8, _WARM_UP_S / 2, 1000), contender, plan.watch)


def _brief(one: Round) -> str:
    figures = one.figures
    return (
        f"{figures['turns_per_s']:7.1f} turns/s  p50 {figures['e2e_p50_ms']:7.1f} ms"
        f"  first token {figures['first_p50_ms']:7.1f} ms  ({one.turns} turns)"
    )
