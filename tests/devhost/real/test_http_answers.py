"""Raw requests are answered as Azure's host was recorded to answer them, or stand in `devhost/http/fidelity.py`."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from devhost.http.fidelity import DIFFERENCES, differing_cases
from devhost.settings.keys import KEYS_FILE
from devhost.testing import PROJECT_DIR, HostProcess, host_process

RECORDINGS = Path(__file__).parent / "recordings" / "http"
APPS = PROJECT_DIR / "tests" / "devhost" / "apps"
LEFT_OUT = frozenset({"date", "server", "connection", "vary", "content-length", "transfer-encoding"})
"""Headers that were not recorded."""
PATIENCE_S = 20.0


@dataclass(frozen=True)
class Answer:
    status: str
    headers: list[list[str]]
    body: str


def recorded(app: str) -> list[dict[str, Any]]:
    cases: list[dict[str, Any]] = json.loads((RECORDINGS / f"{app}.json").read_text())
    return cases


CASES = [
    pytest.param(app, case, id=f"{app}/{case['name']}")
    for app in ("classic", "routes", "streaming")
    for case in recorded(app)
]


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, HostProcess]]:
    """One host for each app, as the real one was set up."""
    folder = tmp_path_factory.mktemp("answers")
    keys = folder / "classic" / KEYS_FILE
    keys.parent.mkdir()
    keys.write_text(json.dumps({"master": "themaster", "host": "thehost"}))
    with (
        host_process(APPS / "http_classic", folder / "classic", ["--enable-auth"]) as classic,
        host_process(APPS / "http_routes", folder / "routes") as routes,
        host_process(APPS / "http_streaming", folder / "streaming") as streaming,
    ):
        yield {"classic": classic, "routes": routes, "streaming": streaming}


@pytest.mark.parametrize(("app", "case"), CASES)
def test_a_request_is_answered_as_recorded(hosts: dict[str, HostProcess], app: str, case: dict[str, Any]) -> None:
    found = ask(hosts[app].port, case["request"])
    wanted = Answer(str(case["status"]), sorted(case["headers"]), scrubbed(case["body"], app))

    name = f"{app}/{case['name']}"
    body, _, cut = wanted.body.partition("<… ")
    same = (
        (found.status, found.headers) == (wanted.status, wanted.headers)
        and (found.body.startswith(body) if cut else found.body == body)
    )  # fmt: skip
    if name in differing_cases():
        assert not same, f"{name} is answered as recorded: take it out of devhost/http/fidelity.py"
    else:
        assert same, f"{name}: {found} instead of {wanted}"


def test_every_row_names_recorded_requests() -> None:
    known = {f"{app}/{case['name']}" for app in ("classic", "routes", "streaming") for case in recorded(app)}
    assert differing_cases() <= known
    assert len({row.what for row in DIFFERENCES}) == len(DIFFERENCES)


def ask(port: int, request: str) -> Answer:
    """Send a raw request and read until the host closes the connection."""
    text = re.sub(r"<(.) times (\d+)>", lambda found: found[1] * int(found[2]), request).replace("PORT", str(port))
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as connection:
        connection.sendall(text.encode("latin-1"))
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    if answer.startswith(b"HTTP/1.1 100 "):
        answer = answer.partition(b"\r\n\r\n")[2]
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *lines = head.decode("latin-1").split("\r\n")
    headers = sorted([name.lower(), value] for name, _, value in (line.partition(": ") for line in lines))
    kept = [pair for pair in headers if pair[0] not in LEFT_OUT]
    return Answer(status.split(" ")[1], kept, scrubbed(body.decode(), "", port))


def scrubbed(body: str, app: str, port: int = 0) -> str:
    """The body without what differs from run to run: ids, ports, the host's own names; JSON with sorted keys."""
    body = re.sub(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}", "GUID", body)
    body = re.sub(r"00-[0-9a-f]{32}-[0-9a-f]{16}-\d\d", "TRACE", body)
    if port:
        body = body.replace(f"127.0.0.1:{port}", "127.0.0.1:PORT")
        body = re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:WORKER", body)
    try:
        value = json.loads(body)
    except ValueError:
        return body
    if isinstance(value, dict) and "versionDetails" in value:
        value = dict.fromkeys(value, "")
    return json.dumps(value, sort_keys=True)
