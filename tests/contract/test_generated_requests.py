"""schemathesis against the document of the running host: whatever is sent, the answer is a declared one.

Its requests come from the document: every bound and just beyond it, wrong types, missing and superfluous parts, and
sequences in which one answer's ids are the next request's. A third of the ids are of things that exist.
"""

from __future__ import annotations

import asyncio
import copy
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.contract.wire import WireContract
from tests.e2e.support.client import Api, call, post_call, script
from tests.e2e.support.processes import AppHost, Sink

pytestmark = pytest.mark.timeout(1200)

_RUN_LIMIT_S = 1140
"""Only bounds waiting, as the limit of a request does: a busy machine takes several times as long as a quiet one."""

_CONFIG = """
# The same requests every time: what a run finds must be there again in the next.
seed = 20260101
continue-on-failure = true
request-timeout = 120
max-failures = 40
headers = {{ x-dev-user = "olga;approver,admin" }}

[generation]
max-examples = {examples}

[phases.coverage]
# `test_http.py` tries every method at every path.
unexpected-methods = []

[phases.fuzzing.checks]
# Here a query parameter may become an object, which is sent under other names; the coverage phase checks refusals.
negative_data_rejection.enabled = false

[phases.stateful]
max-steps = 4

[checks]
unsupported_method.enabled = false
allow_header_conformance.enabled = false
# What a request means is checked too (a cursor that is not ours, a time before another): schemas cannot say that.
positive_data_acceptance.enabled = false
# A 202 or 204 is no promise that a GET finds it: an erased session, a tag that is only a name.
ensure_resource_availability.enabled = false
# Its own list leaves out the two for what is too long.
negative_data_rejection.expected-statuses = ["4xx"]

[dictionaries]
{dictionaries}

[parameters]
{parameters}

[[operations]]
include-name = "DELETE /api/v1/sessions/{{session_id}}"
parameters = {{ "path.session_id" = {{ dictionary = "expendable", probability = 0.3 }} }}
"""


@pytest.fixture
async def api(own_host: AppHost, contract: WireContract) -> AsyncIterator[Api]:
    """On a host that no other test uses: what is generated also makes versions of the agents that others talk to."""
    client = Api(own_host.base_url, contract)
    yield client
    await client.aclose()


async def test_every_generated_request_gets_a_declared_answer(
    api: Api, contract: WireContract, own_host: AppHost, sink: Sink, tmp_path: Path
) -> None:
    values = await _things_that_exist(api, sink)
    config = tmp_path / "schemathesis.toml"
    config.write_text(
        _CONFIG.format(
            examples=8,
            dictionaries="\n".join(f"{name} = {{ values = {list(ids)!r} }}" for name, ids in values.items()),
            parameters="\n".join(
                f'"path.{name}" = {{ dictionary = "{name}", probability = 0.35 }}'
                for name in values
                if name != "expendable"
            ),
        )
    )
    # Who calls is the header above: in the document it is the platform's, which only the platform may send.
    document = copy.deepcopy(contract.document) | {"security": []}
    for operations in document["paths"].values():
        for operation in operations.values():
            for parameter in operation["parameters"]:
                if parameter["schema"].get("format") == "date-time":
                    # An empty value counts as absent, which clients are not told.
                    parameter["schema"] = {"anyOf": [parameter["schema"], {"type": "string", "maxLength": 0}]}
            for answer in operation["responses"].values():
                for kind, media in answer.get("content", {}).items():
                    # The schema of a stream is that of an event's `data`, to which all that tests read is held. A file
                    # is bytes, whatever it holds.
                    if kind == "text/event-stream" or media["schema"].get("format") == "binary":
                        media["schema"] = {}
            if "responses" in operation:
                # A request line over 8 KB is answered by the platform, before the app.
                operation["responses"] = operation["responses"] | {"414": {"description": "URI too long"}}
    # A policy with its rules is tried once, as part of the body of the route that tests one, and not wherever it can
    # stand; of conditions only comparisons, which others combine. Each place and level would be a thousand requests.
    schemas = document["components"]["schemas"]
    schemas["NewAgent"]["properties"]["policies"] = {"type": "object", "maxProperties": 0}
    schemas["NewPolicyTest"]["properties"]["agent"] = {"type": "null"}
    # So is a session's configuration, with a session and its patch: elsewhere it is an object.
    for name, field in (
        ("NewAgent", "defaults"),
        ("NewTemplate", "config"),
        ("NewTrigger", "config"),
        ("NewSchedule", "config"),
    ):
        schemas[name]["properties"][field] = {"type": "object", "maxProperties": 0}
    schemas["Condition"] = {"$ref": "#/components/schemas/Comparison"}
    (tmp_path / "openapi.json").write_text(json.dumps(document))
    done = await asyncio.to_thread(
        subprocess.run,
        [
            *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(config), "--no-color"),
            *("run", "openapi.json", "--url", own_host.base_url),
            *("--phases", "examples,coverage,fuzzing,stateful", "--warnings", "off"),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=_RUN_LIMIT_S,
        check=False,
    )
    # A generated value may be thousands of characters long, and would push what failed out of sight.
    assert done.returncode == 0, "\n".join(line[:400] for line in (done.stdout + done.stderr).splitlines()[-200:])
    assert "No test cases" not in done.stdout


async def _things_that_exist(api: Api, sink: Sink) -> dict[str, list[str]]:
    """Ids to be named in requests: sessions that rest and one that waits for a person, and what hangs on them."""
    rested = await api.session()
    turn_id = await api.say(rested, script(tool_calls=[[call("calculate", expression="6 * 7")]], tokens=5))
    await api.until(rested, turn_id)
    waiting = await api.session()
    await api.say(waiting, script(tool_calls=[[post_call(sink.url("/generated"))]]))
    approval = await api.approval(waiting)
    messages = await api.messages(rested)
    sent = await api.post(f"/api/v1/sessions/{rested}/attachments", files={"file": ("a.csv", b"a,b\n1,2\n")})
    return {
        "session_id": [rested, waiting],
        "attachment_id": [sent.json()["id"]],
        "expendable": [await api.session() for _ in range(3)],
        "turn_id": [turn_id],
        "message_id": [message["id"] for message in messages],
        "approval_id": [approval["id"]],
    }
