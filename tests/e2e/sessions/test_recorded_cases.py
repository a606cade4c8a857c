"""`./dev record`: a session of a running host becomes a case, which plays as it went."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from devtools.cases.case import read
from devtools.cases.record import main
from shared.ids import new_id
from tests.e2e.support.client import Api, call, post_call, script
from tests.e2e.support.processes import ROOT, AppHost, Sink
from tests.support.servers import _make_template, fresh_database

pytestmark = pytest.mark.e2e


async def _record(host: AppHost, session_id: str, to: Path, *more: str, user: str = "olga;approver") -> int:
    arguments = [session_id, "--to", str(to), "--url", host.base_url, "--user", user, *more]
    return await asyncio.to_thread(main, arguments)


async def _replay(file: Path, *arguments: str, **environment: str) -> tuple[int | None, str]:
    played = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "devtools", "replay", str(file), *arguments),
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await played.communicate()
    return played.returncode, said.decode()


async def test_a_session_is_recorded_masked_and_played_as_it_went(
    parley: AppHost,
    api: Api,
    sink: Sink,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    postgres_url: str,
    redis_url: str,
    postgres_server: dict[str, str],
) -> None:
    session_id = await api.session()
    message = script(
        tool_calls=[
            [call("calculate", expression="6 * 7"), post_call(sink.url("/recorded"), '{"to": "jane@shop.example"}')]
        ],
        content="Mail went to jane@shop.example",
    )
    turn_id = await api.say(session_id, message)
    await api.decide((await api.approval(session_id))["id"], "approve", comment="olga says jane@shop.example is right")
    await api.until(session_id, turn_id)
    waiting = await api.say(session_id, script(tool_calls=[[post_call(sink.url("/never"))]]))
    await api.approval(session_id)

    (tmp_path / "mask.yaml").write_text("- name: sum\n  pattern: '6 \\* 7'\n  mask: '{n} + {n}'\n")
    assert await _record(parley, session_id, tmp_path, "--name", "Recorded here") == 0
    said = capsys.readouterr().out
    assert "1 turns; masked: 1 mail, 1 sum" in said
    assert "note: turn 2 is waiting_approval: it and what came after it are left out" in said
    await api.cancel(session_id, waiting)

    file = tmp_path / "recorded-here.case.yaml"
    text = file.read_text("utf-8")
    assert "jane" not in text
    assert "olga" not in text
    case = read(file)
    [turn] = case.turns
    calculate, post = turn.steps[0].calls
    assert calculate.arguments == {"expression": "1 + 1"}
    assert post.approval is not None
    assert [(vote.by, vote.comment) for vote in post.approval.votes] == [
        ("user-1", "user-1 says mail-1@example.com is right")
    ]
    assert turn.steps[-1].text == "Mail went to mail-1@example.com"
    # It is played on a database of its own, and reaches nothing: the sink hears of no second request.
    own = ("--postgres", postgres_url, "--redis", redis_url)
    code, told = await _replay(file, "--agents", str(tmp_path), *own)
    assert code == 0, told
    # Against a real model its answers are new, and the tools' results still the recorded ones.
    with fresh_database(
        postgres_server["POSTGRES_URL"], template=_make_template(postgres_server["POSTGRES_URL"])
    ) as url:
        live = {"OPENAI_BASE_URL": parley.environment["OPENAI_BASE_URL"], "OPENAI_MODEL": "scripted"}
        code, told = await _replay(
            file, "--live", "--agents", str(tmp_path), "--postgres", url, "--redis", redis_url, **live
        )
    assert code in {0, 1}, told
    assert {line.split(": ")[1] for line in told.splitlines() if line.lstrip().startswith("!")} <= {"cost"}
    assert len(sink.at("/recorded")) == 1

    # The same again would overwrite what somebody may have edited; a stranger reads nothing.
    assert await _record(parley, session_id, tmp_path, "--name", "Recorded here") == 1
    assert await _record(parley, session_id, tmp_path, "--name", "Other", user="mallory") == 1
    said = capsys.readouterr().err
    assert "exists already: choose another --name" in said
    assert f"/sessions/{session_id}: 404" in said
    assert not (tmp_path / "other.case.yaml").exists()


async def test_a_subagents_answer_is_replayed_and_a_clients_tool_is_where_the_case_ends(
    parley: AppHost,
    api: Api,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    redis_url: str,
    postgres_server: dict[str, str],
) -> None:
    helper, asks = f"own-{new_id()}", f"own-{new_id()}"
    for agent_id, below in ((helper, []), (asks, [helper])):
        text = f"---\nname: Own\ntools: [calculate]\nagents: {below}\n---\nBe exact.\n"
        (tmp_path / f"{agent_id}.md").write_text(text)
        body = {"name": "Own", "instructions": "Be exact.", "tools": ["calculate"], "agents": below}
        assert (await api.as_user("root;admin").request("PUT", f"/api/v1/agents/{agent_id}", json=body)).is_success
    session_id = str((await api.post("/api/v1/sessions", {"agent_id": asks})).json()["id"])
    task = script(content="a fact from below")
    ask = call(f"ask_{helper.replace('-', '_')}", input=task)
    turn_id = await api.say(session_id, script(tool_calls=[[ask]], content="done"))
    await api.until(session_id, turn_id)
    asked = script(tool_calls=[[call("locate")]])
    waiting = await api.say(session_id, asked, client_tools=[{"name": "locate"}])
    (wait,) = (await api.until(session_id, waiting, "waiting_input"))["waits"]
    await api.post(f"/api/v1/tool-calls/{wait['tool_call_id']}/result", {"content": "Oslo"})
    await api.until(session_id, waiting)

    assert await _record(parley, session_id, tmp_path, "--name", "Asked") == 0

    said = capsys.readouterr().out
    assert "note: turn 2 called a tool of its client: it and what came after it are left out" in said
    case = read(tmp_path / "asked.case.yaml")
    assert [one.result.content for one in case.turns[0].steps[0].calls if one.result] == ["a fact from below"]
    server = postgres_server["POSTGRES_URL"]
    with fresh_database(server, template=_make_template(server)) as url:
        own = ("--postgres", url, "--redis", redis_url)
        code, told = await _replay(tmp_path / "asked.case.yaml", "--agents", str(tmp_path), *own)
    assert (code, "~ tool" in told) == (0, False), told
