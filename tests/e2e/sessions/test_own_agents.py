"""`./dev up` with a folder of agents and tools: the worked example, errors, and changes while it runs."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from devtools.agents.new import new
from tests.devtools.running_up import Up
from tests.e2e.support.tour import blocks_of, environment_of_a_reader, prints_what_is_shown

ROOT = Path(__file__).resolve().parents[3]

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The worked example, as somebody copies it, with a tool and an agent more, and faults."""
    folder = tmp_path_factory.mktemp("mine") / "mine"
    shutil.copytree(ROOT / "examples" / "support", folder, ignore=shutil.ignore_patterns("__pycache__"))
    new("tool", "shout", folder)
    (folder / "tools" / "broken.py").write_text("x = 1\nraise ValueError('no')\n")
    (folder / "clerk.md").write_text("---\ntools: [shout, whisper]\n---\nShout.\n")
    return folder


@pytest.fixture(scope="module")
def up(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    running = Up(ROOT, "--agents", str(folder), data=tmp_path_factory.mktemp("own") / "data", env={})
    try:
        running.wait_for("ready (")
        yield running
    finally:
        running.close()


@pytest.fixture
def client(up: Up) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"http://localhost:{up.port}/api/v1", trust_env=False, timeout=60) as client:
        yield client


def test_the_folder_is_served_and_what_is_wrong_is_told_while_all_else_works(up: Up, client: httpx.Client) -> None:
    assert "mine/tools/broken.py:2: ValueError: no\n" in up.output
    assert "mine/clerk.md:2: tools.1: unknown tool\n" in up.output
    assert "2 agents, 4 tools of mine/; changes are taken at once" in up.output

    agent = client.get("/agents/clerk").json()
    assert (agent["version"], agent["missing_tools"], agent["source"]["kind"]) == (1, ["whisper"], "file")
    tools = {tool["name"]: tool["path"] for tool in client.get("/tools").json()["items"]}
    assert (tools["shout"], tools["calculate"]) == ("mine/tools/shout.py", None)
    ready = client.get("/health/ready").json()
    assert ready["problems"] == ["mine/tools/broken.py:2: ValueError: no", "mine/clerk.md:2: tools.1: unknown tool"]
    assert client.get("/health/ready", headers={"x-dev-user": "eve"}).json()["problems"] == []


def test_the_example_runs_with_one_command_and_does_what_the_page_shows(up: Up, tmp_path: Path) -> None:
    blocks = blocks_of("docs/extend.md", "Run the worked example")
    assert [language for language, _ in blocks] == ["sh", "text", "sh", "text"]

    prints_what_is_shown(up, blocks, environment_of_a_reader(tmp_path), cwd=tmp_path)


def test_a_change_is_taken_at_once_turns_go_on_and_a_new_error_leaves_the_last_good_state(
    up: Up, client: httpx.Client, folder: Path
) -> None:
    """One host for the whole story: each start takes seconds."""
    session = client.post("/sessions", json={"agent_id": "support"}).json()
    content = 'refund {"order_id": "A-1002", "amount": 20, "reason": "Scratched"}'
    turn = client.post(f"/sessions/{session['id']}/messages", json={"content": content}).json()["turn"]
    place = f"/sessions/{session['id']}/turns/{turn['id']}"
    up.wait_until(lambda: client.get(place).json()["status"] == "waiting_approval", "nobody was asked")

    new("tool", "whisper", folder)
    up.wait_for("tools/whisper.py: taken, turns go on")
    assert client.get("/agents/clerk").json()["missing_tools"] == []

    (asked,) = client.get("/approvals", params={"status": "pending"}).json()["items"]

    def decide(who: str) -> int:
        yes = {"decision": "approve"}
        return client.post(f"/approvals/{asked['id']}/decision", json=yes, headers={"x-dev-user": who}).status_code

    assert decide("dev;approver,admin") == 409, "the customer's own approval"
    assert decide("uma;user") == 404
    assert decide("ann;approver") == 200, "a small refund takes one approver"
    up.wait_until(lambda: client.get(place).json()["status"] == "completed", "the turn does not end")
    said = client.get(f"/sessions/{session['id']}/messages", params={"role": "tool"}).text
    assert "20.00 EUR were paid back for the order A-1002." in said

    (folder / "clerk.md").write_text("---\ntools: [shout, whisper]\n---\nShout, then whisper.\n")
    up.wait_for("clerk.md: taken, turns go on")
    agent = client.get("/agents/clerk").json()
    assert (agent["version"], agent["instructions"]) == (2, "Shout, then whisper.")

    good = folder / "tools" / "shout.py"
    kept = good.read_text()
    good.write_text(kept + "\ndef broken(:\n")
    line = kept.count("\n") + 2
    up.wait_for(f"mine/tools/shout.py:{line}: SyntaxError: invalid syntax")
    up.wait_for("the last good state goes on serving")
    assert {"shout", "whisper"} <= {tool["name"] for tool in client.get("/tools").json()["items"]}
