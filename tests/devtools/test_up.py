"""`./dev up` as its user meets it: a process, its output, and what is left when it ended."""

from __future__ import annotations

import json
import re
import shutil
import signal
import socket
from pathlib import Path

import httpx
import psycopg
import pytest
from azure.data.tables import TableServiceClient
from redis import Redis

from tests.devtools.running_up import StartUp, Up

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]


def _settings(one: Up) -> dict[str, str]:
    answer = httpx.get(f"http://127.0.0.1:{one.port}/api/settings", timeout=30)
    answer.raise_for_status()
    settings = answer.json()
    assert isinstance(settings, dict)
    return settings


def test_ready_means_the_app_has_its_servers_and_state_survives_a_restart(up: StartUp) -> None:
    first = up()
    first.wait_for("\nready")
    settings = _settings(first)
    with psycopg.connect(settings["POSTGRES_URL"]) as connection:
        connection.execute("INSERT INTO visit VALUES (7)")
    with Redis.from_url(settings["REDIS_URL"]) as redis:
        redis.set("kept", "yes")
    with TableServiceClient.from_connection_string(settings["AzureWebJobsStorage"]) as tables:
        tables.create_table("kept")
    models = httpx.get(settings["OPENAI_BASE_URL"] + "/models", timeout=30)
    assert models.status_code == 200
    assert settings["PUBLIC_BASE_URL"] == f"http://localhost:{first.port}"
    assert settings["AUTH_MODE"] == "dev"
    assert settings["DEVHOST_CORS_LOCAL"] == "true"
    notes = f"http://{settings['TOOLS_HTTP_ALLOW']}/notes"
    assert notes in first.output
    assert settings["WEBHOOK_HOSTS"] == f"public,{settings['TOOLS_HTTP_ALLOW']}"
    assert httpx.post(notes, json={"text": "hi"}, headers={"idempotency-key": "k"}, timeout=30).status_code == 201
    for of_a_page, status in (({"origin": "http://evil.example"}, 403), ({"host": "evil.example"}, 403)):
        assert httpx.post(notes, json={"text": "no"}, headers=of_a_page, timeout=30).status_code == status
    assert httpx.get(notes, headers={"host": "evil.example"}, timeout=30).status_code == 421
    assert httpx.get(notes, timeout=30).json() == {"notes": [{"note": {"text": "hi"}, "idempotency_key": "k"}]}
    first.send(signal.SIGTERM)
    assert first.wait() == 0

    second = up(data=first.data)
    second.wait_for("\nready")
    again = _settings(second)
    for name in ("POSTGRES_URL", "REDIS_URL", "AzureWebJobsStorage", "APPROVAL_LINK_SECRET"):
        assert again[name] == settings[name]
    with psycopg.connect(again["POSTGRES_URL"]) as connection:
        assert connection.execute("SELECT n FROM visit").fetchall() == [(7,)]
    with Redis.from_url(again["REDIS_URL"]) as redis:
        assert redis.get("kept") == b"yes"
    with TableServiceClient.from_connection_string(again["AzureWebJobsStorage"]) as tables:
        assert [table.name for table in tables.list_tables()] == ["kept"]


def test_other_names_and_callers_without_the_printed_address_are_kept_out_after_a_restart_too(
    up: StartUp, own_servers: dict[str, str]
) -> None:
    public = own_servers | {"PUBLIC_BASE_URL": "https://chat.example"}
    first = up(env=public)
    first.wait_for("\nready")
    printed = re.search(r"http://localhost:\d+(/admin/pages\?code=\S+) ", first.output)
    assert printed is not None
    with httpx.Client(base_url=f"http://127.0.0.1:{first.port}", timeout=30) as browser:
        assert browser.get("/admin/pages").status_code == 401
        assert browser.get(printed[1], follow_redirects=True).status_code == 200
        assert browser.get("/api/settings", headers={"host": "chat.example"}).status_code == 200
        assert browser.get("/api/settings", headers={"host": "evil.example"}).status_code == 421

        first.send(signal.SIGTERM)
        first.wait()
        up(data=first.data, env=public, port=first.port).wait_for("\nready")
        assert browser.get("/admin/pages").status_code == 200


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopping_leaves_no_process(up: StartUp, number: signal.Signals) -> None:
    one = up()
    one.wait_for("\nready")
    one.send(number)
    assert one.wait() == 0
    assert len(one.look()) > 4
    assert one.left_over() == []


@pytest.mark.parametrize("moment", ["valkey ", "postgres ", "schema ", "azurite ", "functions of"])
def test_stopping_twice_in_the_middle_of_the_start_leaves_no_process(up: StartUp, moment: str) -> None:
    one = up()
    one.wait_for(moment)
    one.send(signal.SIGINT)
    one.send(signal.SIGINT)
    assert one.wait() == 0
    assert one.left_over() == []


def test_a_killed_up_leaves_no_process_and_the_next_one_starts(up: StartUp) -> None:
    first = up()
    first.wait_for("\nready")
    first.send(signal.SIGKILL)
    first.wait()
    second = up(data=first.data)  # at once: what is left may still be ending
    first.wait_until_nothing_is_left()
    second.wait_for("\nready")


def test_a_killed_host_is_named_and_started_again(up: StartUp, own_servers: dict[str, str]) -> None:
    one = up(env=own_servers)
    one.wait_for("\nready")
    one.child("host").kill()
    one.wait_for("host      was ended by SIGKILL; restarting")
    one.wait_for("host      runs again")
    assert _settings(one)["OPENAI_MODEL"] == "mine"


def test_a_second_up_on_the_same_data_is_refused_and_one_beside_it_is_not(
    up: StartUp, own_servers: dict[str, str]
) -> None:
    first = up(env=own_servers)
    first.wait_for("\nready")
    refused = up(env=own_servers, data=first.data)
    assert refused.wait() == 1
    assert f"is in use by process {first.process.pid}" in refused.output
    beside = up(env=own_servers)
    beside.wait_for("\nready")
    assert _settings(first)["PUBLIC_BASE_URL"] != _settings(beside)["PUBLIC_BASE_URL"]


def test_servers_of_ones_own_are_used_and_none_is_started(up: StartUp, own_servers: dict[str, str]) -> None:
    one = up(env=own_servers)
    one.wait_for("\nready")
    settings = _settings(one)
    assert {name: settings[name] for name in own_servers} == own_servers
    assert sorted(path.name for path in one.data.iterdir() if path.is_dir()) == ["host"]


def test_local_settings_count_as_set(up: StartUp, checkout: Path, own_servers: dict[str, str]) -> None:
    local = checkout / "local.settings.json"
    local.write_text(json.dumps({"IsEncrypted": False, "Values": own_servers}))
    try:
        one = up()
        one.wait_for("\nready")
        assert _settings(one)["REDIS_URL"] == own_servers["REDIS_URL"]
        assert sorted(path.name for path in one.data.iterdir() if path.is_dir()) == ["host"]
    finally:
        local.unlink()


_ONE_PACKAGE = {
    "name": "web",
    "version": "1.0.0",
    "lockfileVersion": 3,
    "packages": {
        "": {"name": "web", "version": "1.0.0", "dependencies": {"left-pad": "1.3.0"}},
        "node_modules/left-pad": {
            "version": "1.3.0",
            "resolved": "https://registry.npmjs.org/left-pad/-/left-pad-1.3.0.tgz",
            "integrity": f"sha512-{'A' * 86}==",
        },
    },
}


def test_without_the_npm_registry_all_else_works_and_what_is_missing_is_told(
    up: StartUp, checkout: Path, own_servers: dict[str, str], tmp_path: Path
) -> None:
    web = checkout / "web"
    web.mkdir()
    (web / "package.json").write_text(json.dumps({**_ONE_PACKAGE["packages"][""]}))  # type: ignore[index]
    (web / "package-lock.json").write_text(json.dumps(_ONE_PACKAGE))
    dead = {"NPM_CONFIG_REGISTRY": "http://127.0.0.1:9/", "NPM_CONFIG_CACHE": str(tmp_path / "npm")}
    without = {name: value for name, value in own_servers.items() if name != "AzureWebJobsStorage"}
    try:
        one = up(env=without | dead | {"XDG_CACHE_HOME": str(tmp_path)})
        one.wait_for("\nready")
    finally:
        shutil.rmtree(web)
    reason = "the npm registry cannot be reached (ECONNREFUSED); run ./dev up again with a network"
    assert f"console   is not built, all else works: {reason}" in one.output
    assert f"azurite   is left out, and so are files and the audit trail: {reason}" in one.output
    assert "  console not built: see above\n" in one.output
    assert "AzureWebJobsStorage" not in _settings(one)


def test_a_folder_that_cannot_be_written_is_one_line(up: StartUp, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    one = up(data=tmp_path / "file" / "data")
    assert one.wait() == 1
    assert one.output == (
        f"dev: the data folder {tmp_path}/file/data cannot be written (Not a directory): choose another with --data\n"
    )


def test_a_file_in_the_place_of_a_servers_folder_is_one_line_and_all_is_stopped(up: StartUp, tmp_path: Path) -> None:
    (tmp_path / "valkey").touch()
    one = up(data=tmp_path)
    assert one.wait() == 1
    assert f"dev: {tmp_path}/valkey: " in one.output.splitlines()[-1]
    assert "Traceback" not in one.output
    assert one.left_over() == []


def test_a_taken_port_is_one_line(up: StartUp) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        one = up(port=port)
        assert one.wait() == 1
    told = re.fullmatch(rf"dev: port {port} is taken: stop what listens there, or \./dev up --port (\d+)\n", one.output)
    assert told is not None, one.output
    assert int(told[1]) > port


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (
            {"OPENAI_BASE_URL": "http://127.0.0.1:9/v1/"},
            "OPENAI_MODEL is not set: add OPENAI_MODEL=NAME, one of those that GET http://127.0.0.1:9/v1/models lists",
        ),
        (
            {"AZURE_OPENAI_ENDPOINT": "https://x.openai.azure.com", "OPENAI_MODEL": "not asked for"},
            "AZURE_OPENAI_DEPLOYMENT is not set: add AZURE_OPENAI_DEPLOYMENT=NAME, the name of the deployment in your"
            " Azure OpenAI",
        ),
    ],
)
def test_a_model_without_its_name_is_one_line_before_anything_starts(
    up: StartUp, settings: dict[str, str], told: str
) -> None:
    one = up(env=settings)
    assert one.wait() == 1
    assert one.output == f"dev: {told}\n"
    assert not one.data.exists()


def test_data_of_another_version_is_one_line(up: StartUp, tmp_path: Path) -> None:
    (tmp_path / "version").write_text("parley-0\n")
    one = up(data=tmp_path)
    assert one.wait() == 1
    assert one.output.startswith(f"dev: the data folder {tmp_path} is from another version (parley-0, ")
    assert one.output.count("\n") == 1


def test_an_unreachable_database_is_one_line(up: StartUp, own_servers: dict[str, str]) -> None:
    one = up(env=own_servers | {"POSTGRES_URL": "postgresql://nobody@127.0.0.1:9/none"})
    assert one.wait() == 1
    assert one.output.splitlines()[-1].startswith("dev: the migrations failed: ")


def _ready(path: Path, *, model: str, text: str, may_pass: bool = False) -> dict[str, str]:
    """An environment in which the app says of itself what the file says."""
    said = {
        "status": "ok" if model == "ok" else "unavailable",
        "model": {"answers": model == "ok", "may_pass": may_pass, "text": text},
        "dependencies": {"postgres": "ok", "durable": "ok", "model": model},
    }
    path.write_text(json.dumps(said))
    return {"READY_FILE": str(path)}


def test_the_model_that_answers_is_named(up: StartUp, own_servers: dict[str, str], tmp_path: Path) -> None:
    ready = _ready(tmp_path / "ready.json", model="ok", text="mine answers (chat API, 12 ms)")
    running = up(env=own_servers | ready)

    running.wait_for("ready (")

    assert "  model   mine answers (chat API, 12 ms)\n" in running.output


def test_a_model_that_somebody_has_to_put_right_ends_up_with_its_reason(
    up: StartUp, own_servers: dict[str, str], tmp_path: Path
) -> None:
    text = "mine does not answer (chat API): the operator has to put OPENAI_API_KEY right."
    running = up(env=own_servers | _ready(tmp_path / "ready.json", model="unavailable", text=text))

    assert running.wait() == 1
    assert running.output.rstrip().splitlines()[-1] == f"dev: the model {text}"


def test_a_model_that_is_away_is_told_of_and_waited_for(
    up: StartUp, own_servers: dict[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "ready.json"
    text = "mine does not answer (chat API): The model endpoint cannot be reached."
    running = up(env=own_servers | _ready(file, model="unavailable", text=text, may_pass=True))
    running.wait_for(f"model     {text} (tried again until it does)")
    assert "ready (" not in running.output

    _ready(file, model="ok", text="mine answers (chat API, 12 ms)")

    running.wait_for("ready (")


def test_an_app_that_cannot_start_ends_up_with_its_reason(
    up: StartUp, checkout: Path, own_servers: dict[str, str]
) -> None:
    settings = checkout / "host.json"
    before = settings.read_text()
    settings.write_text("{")
    try:
        one = up(env=own_servers)
        assert one.wait() == 1
    finally:
        settings.write_text(before)
    assert "host.json" in one.output
    assert "dev: host ended with code 1 at start" in one.output
    assert one.left_over() == []


def test_a_harsh_engine_says_so_and_how_to_repeat_it(up: StartUp) -> None:
    one = up("--engine", "harsh", "--seed", "7")
    one.wait_for("\nready")
    assert "repeat it with --engine harsh --seed 7" in one.output
    assert "harsh engine, seed 7:" in one.output
    assert _settings(one)["PUBLIC_BASE_URL"], "it serves"
