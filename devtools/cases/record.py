"""`./dev record SESSION`: writes a session of a running host as a case, through the API, as whoever may read it."""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from devtools.cases.case import text_of
from devtools.cases.masking import BadRules, Masking, rules_of
from devtools.cases.of_wire import Wire, case_of
from devtools.setup.places import ROOT

TOKEN = "PARLEY_TOKEN"  # noqa: S105  # a variable's name
_TIMEOUT_S = 60.0
_LIMIT = 100

type Json = dict[str, Any]


class NotRecorded(Exception):
    """The message says why."""


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="./dev record", description="Write a session as a case for ./dev replay.")
    parser.add_argument("session", help="its id")
    parser.add_argument("--to", type=Path, default=Path(ROOT) / "agents" / "cases", help="folder (agents/cases)")
    parser.add_argument("--name", help="of the case (the session's name)")
    parser.add_argument("--url", default="http://localhost:7071", help="of the host (http://localhost:7071)")
    parser.add_argument("--user", help="on a local host: who you are, such as 'ann;admin'")
    parser.add_argument("--mask", type=Path, metavar="FILE", help="rules of your own (mask.yaml of the folder)")
    options = parser.parse_args(arguments)
    own = options.to / "mask.yaml"
    try:
        rules = rules_of(options.mask or (own if own.is_file() else None))
        wire = asyncio.run(_read(options.url, options.session, _headers(options.user)))
        name = options.name or wire.session["name"] or f"session of {wire.turns[0]['created_at'][:10]}"
        made = case_of(wire, name, Masking(rules), now=datetime.now(UTC))
        if not made.case.turns:
            raise NotRecorded(f"nothing can be replayed of it: {made.notes[0]}")
        options.to.mkdir(parents=True, exist_ok=True)
        file = options.to / f"{_file_name(name)}.case.yaml"
        with file.open("x", encoding="utf-8") as target:
            target.write(text_of(made.case))
    except FileExistsError:
        print(f"record: {file} exists already: choose another --name", file=sys.stderr)
        return 1
    except (NotRecorded, BadRules, OSError) as error:
        print(f"record: {error}", file=sys.stderr)
        return 1
    hidden = ", ".join(f"{count} {rule}" for rule, count in made.case.masked.items()) or "nothing but its users"
    print(f"wrote {file}: {len(made.case.turns)} turns; masked: {hidden}")
    for note in made.notes:
        print(f"  note: {note}")
    print(f"  read it before you keep it: rules find only what they know. Then: ./dev replay {file}")
    return 0


def _headers(user: str | None) -> dict[str, str]:
    headers = {} if user is None else {"x-dev-user": user}
    token = os.environ.get(TOKEN)
    return headers if token is None else headers | {"Authorization": f"Bearer {token}"}


def _file_name(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:60] or "case"


async def _read(url: str, session_id: str, headers: dict[str, str]) -> Wire:
    async with httpx.AsyncClient(
        base_url=f"{url.rstrip('/')}/api/v1", headers=headers, timeout=_TIMEOUT_S, trust_env=False
    ) as client:
        api = _Api(client)
        of = f"/sessions/{session_id}"
        session = await api.get(of)
        turns = list(reversed(await api.all(f"{of}/turns")))
        messages = await api.all(f"{of}/messages")
        if not turns:
            raise NotRecorded("the session has no turns yet")
        approvals = list(reversed(await api.all(f"{of}/approvals")))
        try:
            audit = await api.all(f"{of}/audit")
        except NotRecorded:
            print("  note: the audit trail is the owner's to read: results that came later are replayed at once")
            audit = []
        later = {line["details"]["tool_call_id"]: line for line in audit if _is_later(line)}
        agent = await _version(api, session["agent_id"] or "assistant", turns, approvals)
        others = {*agent.get("agents", ()), *agent.get("hands_over_to", ())}
        return Wire(
            session=session,
            owner=next((m["author"] for m in messages if m["author"] is not None), "owner"),
            agent=agent,
            tools=await api.all("/tools"),
            turns=turns,
            messages=messages,
            approvals=approvals,
            later=later,
            agents=[await api.get(f"/agents/{agent_id}") for agent_id in sorted(others)],
        )


def _is_later(line: Json) -> bool:
    """Whether a line of the trail says that a call's result was posted."""
    return line["action"] == "tool_call.answered" and "tool_call_id" in line["details"]


async def _version(api: _Api, agent_id: str, turns: Sequence[Json], approvals: Sequence[Json]) -> Json:
    """The version that the newest turn had: the newest of those that were made before it."""
    agent = await api.get(f"/agents/{agent_id}")
    known = [approval["agent_version"] for approval in approvals if approval["turn_id"] == turns[-1]["id"]]
    if known and known[0] is not None:
        return agent if agent["version"] == known[0] else await api.get(f"/agents/{agent_id}", version=known[0])
    while agent["created_at"] is not None and agent["created_at"] > turns[-1]["created_at"] and agent["version"] > 1:
        agent = await api.get(f"/agents/{agent_id}", version=agent["version"] - 1)
    return agent


class _Api:
    """Reads of the API."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def get(self, path: str, **query: Any) -> Json:
        """Raises NotRecorded."""
        try:
            response = await self._client.get(path, params=query)
        except httpx.HTTPError as error:
            raise NotRecorded(f"{self._client.base_url} does not answer: {error or type(error).__name__}") from error
        if not response.is_success:
            told = response.json() if "json" in response.headers.get("content-type", "") else {}
            raise NotRecorded(f"{path}: {response.status_code} {told.get('detail', response.reason_phrase)}")
        found: Json = response.json()
        return found

    async def all(self, path: str) -> list[Json]:
        """Every item of a list."""
        items: list[Json] = []
        query: dict[str, Any] = {"limit": _LIMIT}
        while True:
            page = await self.get(path, **query)
            items += page["items"]
            if page.get("next_cursor") is None:
                return items
            query["cursor"] = page["next_cursor"]
