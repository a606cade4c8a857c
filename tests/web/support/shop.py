"""A web shop's support as the pictures show it: a host with the agents of `examples/support`, and what was said there.

Every message is a real turn on the scripted model, every tool of the shop runs on the shop's tables, and every decision
is a person's. Only when it was is moved: a conversation of last week is one of today with its times set back.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg

from tests.e2e.support.client import call, script
from tests.e2e.support.processes import ROOT, AppHost, Sink, running_host
from tests.e2e.support.stack import own_environment, own_stores
from tests.web.support.browsing import PATIENCE_MS, Http

MARA = "mara;user,admin,finance,approver"
"""Who looks after these conversations, may look into the rooms, and decides with others on large refunds."""
JONAS = "jonas.weber;user"
"""A customer, whom Mara let into a session."""
ANA = "ana;approver"
FINANCE = ("fay;finance,approver", "tom;finance,approver")

SAID: dict[str, Any] = json.loads((Path(__file__).parent / "shop_said.json").read_text("utf-8"))

_EXAMPLE = ROOT / "examples" / "support"
_ORDERS = """
    INSERT INTO shop.orders (id, customer, item, state, amount, currency) VALUES
        ('A-2041', 'jonas.weber', 'Espresso machine Aurora', 'delivered', 1499.00, 'EUR'),
        ('A-2038', 'mara', 'Coffee grinder Flint', 'returned', 189.00, 'EUR'),
        ('A-2019', 'mara', 'Milk frother', 'delivered', 79.90, 'EUR')
"""
# Each statement moves the rows of one session. Turns of a real model take seconds.
_MOVED = """
    UPDATE messages SET created_at = created_at - %(by)s WHERE session_id = %(session)s;
    UPDATE turns SET created_at = created_at - %(by)s, started_at = started_at - %(by)s,
        ended_at = started_at - %(by)s + make_interval(secs => 1.4 + output_tokens / 20.0)
        WHERE session_id = %(session)s;
    UPDATE sessions SET created_at = created_at - %(by)s, updated_at = updated_at - %(by)s WHERE id = %(session)s
"""
_USED = """
    DELETE FROM token_usage WHERE user_id = 'mara';
    INSERT INTO token_usage (user_id, day, input_tokens, output_tokens, cost_usd)
    SELECT 'mara', (created_at AT TIME ZONE 'UTC')::date, sum(input_tokens), sum(output_tokens), sum(cost_usd)
    FROM turns WHERE requested_by = 'mara' GROUP BY 2
"""


@dataclass
class Shop:
    host: AppHost
    refund: str = ""
    """The session in which a large refund waits for finance."""
    asked: str = ""
    """The session in which one agent asked another."""
    asked_turn: str = ""

    def approval(self) -> str:
        with contextlib.closing(Http(self.host.base_url, FINANCE[0])) as http:
            return str(http.get("/approvals", session_id=self.refund)["items"][0]["id"])


@contextlib.contextmanager
def open_shop(folder: Path, model_url: str, sink: Sink, *, person_s: float = 0) -> Iterator[Shop]:
    """person_s: how long a person takes to decide, which a picture shows."""
    with own_stores() as stores:
        with psycopg.connect(stores.postgres_url) as database:
            database.execute((_EXAMPLE / "dev.sql").read_text("utf-8"))
            database.execute(_ORDERS)
        settings = {
            "AGENTS_FOLDER": str(_EXAMPLE),
            "TOOL_SECRET_SHOP_DATABASE_URL": stores.postgres_url,
            "OPENAI_MODEL": "gpt-5.4-mini",
        }
        with running_host(folder, own_environment(stores, model_url, sink) | settings) as host:
            shop = Shop(host)
            with contextlib.closing(Http(host.base_url, MARA)) as http:
                _agents(http)
                _earlier(http, host)
                shop.asked, shop.asked_turn = _asked(http, host, person_s)
                shop.refund = _refund(http, host)
                _unattended(http)
            yield shop


def say(http: Http, session_id: str, words: str, *, wait: bool = True, **answer: object) -> str:
    """What a customer says, and the script of its answer; the turn's id."""
    return str(http.say(session_id, f"{script(**answer)}\n{words}", wait=wait)["turn"]["id"])


def _agents(http: Http) -> None:
    for number in range(1, len(SAID["rules"]) + 1):
        http.agent(
            "returns",
            "Returns",
            description="Decides whether a return is taken, and what is offered instead.",
            instructions="\n\n".join(SAID["rules"][:number]),
            tools=["current_time", "calculate"],
            defaults={"max_steps": 6},
        )
    http.agent(
        "concierge",
        "Concierge",
        description="Takes every question and asks whoever knows.",
        instructions="Answer what you know, and ask the support agent about orders and money.",
        tools=["current_time", "search_history"],
        agents=["support", "returns"],
    )


def _earlier(http: Http, host: AppHost) -> None:
    for one in SAID["earlier"]:
        session_id = http.session(one["name"], agent_id="support")
        for tag in one["tags"]:
            http.put(f"/sessions/{session_id}/tags/{tag}")
        for words, told in [*SAID["before"][: one["days"] % 3], (one["question"], one["answer"])]:
            calls = [[call("find_order", order_id="A-2019")]] if "A-2019" in words else []
            say(http, session_id, words, content=told, tool_calls=calls)
        _move(host, session_id, days=one["days"])
        if one.get("is_pinned"):
            http.do("PUT", f"/sessions/{session_id}/pin")


def _asked(http: Http, host: AppHost, person_s: float) -> tuple[str, str]:
    """The concierge asks the support agent, whose refund an approver allows, who takes so long."""
    said = SAID["asked"]
    session_id = http.session("Grinder came back, money did not", agent_id="concierge")
    refund = call("refund", order_id="A-2038", amount=189, reason="Returned three weeks ago, not paid back yet")
    task = script(content=said["below"], tool_calls=[[call("find_order", order_id="A-2038")], [refund]])
    turn_id = say(
        http,
        session_id,
        said["question"],
        wait=False,
        reasoning=said["reasoning"],
        preamble=said["preamble"],
        content=said["answer"],
        tool_calls=[[call("ask_support", input=task)]],
    )
    with contextlib.closing(Http(host.base_url, ANA)) as ana:
        [approval] = _until_asked(ana)
        time.sleep(person_s)
        ana.post(f"/approvals/{approval['id']}/decision", {"decision": "approve", "comment": said["comment"]})
    http.until_over(session_id)
    return session_id, turn_id


def _until_asked(http: Http) -> list[dict[str, str]]:
    """The approvals that wait for somebody, once there are some."""
    deadline = time.monotonic() + PATIENCE_MS / 1000
    while not (found := http.get("/approvals", status="pending")["items"]):
        assert time.monotonic() < deadline, "nobody was asked"
        time.sleep(0.05)
    return list(found)


def _refund(http: Http, host: AppHost) -> str:
    """A customer asks for a refund that is too large for one approver."""
    said = SAID["refund"]
    session_id = http.session("Espresso machine: cracked tank", agent_id="support")
    http.put(f"/sessions/{session_id}/tags/important")
    for user, access in (("jonas.weber", "write"), ("ana", "read")):
        http.put(f"/sessions/{session_id}/participants/{user}", {"access": access})
    with contextlib.closing(Http(host.base_url, JONAS)) as jonas:
        order = call("find_order", order_id="A-2041")
        say(jonas, session_id, said["question"], content=said["answer"], tool_calls=[[order]])
        refund = call("refund", order_id="A-2041", amount=1499, reason=said["reason"])
        say(jonas, session_id, said["wish"], preamble=said["preamble"], content="Paid.", tool_calls=[[refund]])
    _move(host, session_id, days=0)
    return session_id


def _unattended(http: Http) -> None:
    for schedule in SAID["schedules"]:
        body = {name: value for name, value in schedule.items() if name != "id"}
        http.put(f"/schedules/{schedule['id']}", body | {"zone": "Europe/Berlin"})


def _move(host: AppHost, session_id: str, *, days: int) -> None:
    with psycopg.connect(host.environment["POSTGRES_URL"]) as database:
        for statement in _MOVED.split(";"):
            database.execute(statement, {"session": session_id, "by": timedelta(days=days)})


def count_days(shop: Shop) -> None:
    """The usage of each day, as it would have been counted on it."""
    with psycopg.connect(shop.host.environment["POSTGRES_URL"]) as database:
        for statement in _USED.split(";"):
            database.execute(statement)
