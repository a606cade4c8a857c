"""`./dev replay [CASES]`: plays cases against today's agents, and says what changed."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

from devhost.servers.postgres import Postgres
from devhost.servers.process import ServerError
from devhost.servers.supervise import enter_all
from devhost.servers.valkey import Valkey
from devtools.cases.case import Case, Unusable, files_of, read
from devtools.cases.comparing import Judge, changes
from devtools.cases.judge import KEY, ModelJudge
from devtools.cases.report import Outcome, Summary
from devtools.setup.places import ROOT

_PASSED = ("HOME", "LANG", "PATH", "TMPDIR", "PYTHONPATH")
_LIVE = ("AZURE_OPENAI_", "OPENAI_", "MODEL", "LLM_")
_SETTINGS = {
    "APPROVAL_LINK_SECRET": "not-a-secret-" * 4,
    "AUTH_MODE": "dev",
    "AZURE_FUNCTIONS_ENVIRONMENT": "Development",
    "PUBLIC_BASE_URL": "http://localhost:7071",
}
_NO_MODEL = {"OPENAI_BASE_URL": "http://127.0.0.1:1/v1", "OPENAI_MODEL": "recorded"}


def main(arguments: Sequence[str]) -> int:
    """0: everything goes as recorded; 1: something changed; 2: it could not be found out."""
    parser = argparse.ArgumentParser(prog="./dev replay", description="Play recorded cases against today's agents.")
    parser.add_argument("cases", nargs="*", type=Path, help="files and folders (agents/cases)")
    parser.add_argument("--agents", type=Path, default=Path(ROOT) / "agents", metavar="DIR", help="agents and tools")
    parser.add_argument("--strict", action="store_true", help="a model that is asked otherwise fails its case, too")
    parser.add_argument("--junit", type=Path, metavar="FILE", help="write the outcome for CI")
    parser.add_argument("--live", action="store_true", help="ask the model of OPENAI_... or AZURE_OPENAI_...")
    parser.add_argument("--judge-url", help=f"base address of a model that judges texts; its key: {KEY}")
    parser.add_argument("--judge-model", default="gpt-5.4-mini", help="its name (gpt-5.4-mini)")
    parser.add_argument("--postgres", metavar="URL", help="an empty database instead of one that is started")
    parser.add_argument("--redis", metavar="URL", help="the same for Redis; both or none")
    options = parser.parse_args(arguments)
    if (options.postgres is None) != (options.redis is None):
        parser.error("--postgres and --redis belong together")
    try:
        cases = [(file, read(file)) for file in files_of(options.cases or [Path(ROOT) / "agents" / "cases"])]
        if not options.agents.is_dir():
            raise Unusable(f"{options.agents} is no folder with agents")
        judge = None
        if options.judge_url:
            judge = ModelJudge(options.judge_url, options.judge_model, os.environ.get(KEY))
        summary = asyncio.run(_run(cases, options, judge))
        if options.junit is not None:
            summary.junit().write(options.junit, encoding="utf-8", xml_declaration=True)
    except (Unusable, ServerError, OSError) as error:
        print(f"replay: {error}", file=sys.stderr)
        return 2
    print(summary.text())
    if any(outcome.error for outcome in summary.outcomes):
        return 2
    return 0 if all(outcome.is_same for outcome in summary.outcomes) else 1


async def _run(cases: Sequence[tuple[Path, Case]], options: argparse.Namespace, judge: Judge | None) -> Summary:
    async with _stores(options.postgres, options.redis) as stores:
        _settle(os.environ, stores, options.agents, is_live=options.live)
        # Only now: the app reads its settings when it is imported.
        from devtools.cases.replaying import Stage

        logging.disable(logging.ERROR)  # what the app would tell its operator is in the outcome
        outcomes: list[Outcome] = []
        async with Stage.open(is_live=options.live) as stage:
            for file, case in cases:
                began = time.monotonic()
                try:
                    played = await stage.play(case)
                except Exception as error:  # whatever it is, the other cases are played
                    said = f"{type(error).__name__}: {error}"
                    outcomes.append(Outcome(case.name, str(file), time.monotonic() - began, error=said))
                    continue
                found = await changes(case, played, judge)
                outcomes.append(
                    Outcome(
                        case.name,
                        str(file),
                        time.monotonic() - began,
                        found,
                        played.notes,
                        is_strict=options.strict,
                    )
                )
    return Summary(outcomes)


@contextlib.asynccontextmanager
async def _stores(postgres: str | None, redis: str | None) -> AsyncIterator[dict[str, str]]:
    """Servers for this run alone, or those that are named."""
    if postgres is not None and redis is not None:
        await _refuse_used(postgres)
        yield {"POSTGRES_URL": postgres, "REDIS_URL": redis}
        return
    with tempfile.TemporaryDirectory(prefix="replay-", ignore_cleanup_errors=True) as folder:
        os.chmod(folder, 0o711)  # noqa: PTH101, S103  # PostgreSQL's account has to get through it
        started = Postgres(Path(folder) / "postgres", fast=True, report=_silent)
        beside = Valkey(Path(folder) / "valkey", fast=True, report=_silent)
        async with contextlib.AsyncExitStack() as stack:
            await enter_all(stack, [started, beside])
            await _migrate(started.url)
            yield {"POSTGRES_URL": started.url, "REDIS_URL": beside.url}


def _silent(name: str, text: str) -> None:
    del name, text


async def _refuse_used(url: str) -> None:
    """Cases are no guests in a database that somebody uses. Raises Unusable."""
    import psycopg

    try:
        async with await psycopg.AsyncConnection.connect(url) as connection:
            there = await (await connection.execute("SELECT to_regclass('sessions')")).fetchone()
            if there == (None,):
                await _migrate(url)
                return
            used = await (await connection.execute("SELECT EXISTS (SELECT FROM sessions)")).fetchone()
    except psycopg.Error as error:
        raise Unusable(f"the database of --postgres cannot be used: {error}") from error
    if used == (True,):
        raise Unusable("the database of --postgres has sessions: name an empty one")


async def _migrate(url: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "shared.adapters.sql.migrate"),
        cwd=ROOT,
        env={**os.environ, "POSTGRES_URL": url},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    if process.returncode != 0:
        raise Unusable(f"the database cannot be prepared: {said.decode(errors='replace').strip()[-500:]}")


def _settle(environment: Mapping[str, str], stores: Mapping[str, str], agents: Path, *, is_live: bool) -> None:
    """The app's settings are these and no others: no secret of this machine gets into a replay."""
    kept = {
        name: value for name, value in environment.items() if name in _PASSED or (is_live and name.startswith(_LIVE))
    }
    model = {} if is_live else _NO_MODEL
    os.environ.clear()
    os.environ.update({**kept, **_SETTINGS, **model, **stores, "AGENTS_FOLDER": str(agents.resolve())})
