"""The benchmark's arithmetic and its reading of streams, without any server."""

from __future__ import annotations

import subprocess
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from devhost.servers import ServerError
from devtools.bench.figures.profile import summary
from devtools.bench.figures.results import GrowthResult, growth_of, round_of
from devtools.bench.figures.statements import table
from devtools.bench.figures.statistics import median, percentile, spread
from devtools.bench.figures.usage import MIB, Usage
from devtools.bench.load.loader import Measured
from devtools.bench.load.view import SESSION_SSE, SIGNALR, TURN_SSE, Framing, TurnView, UnexpectedTurn
from devtools.bench.load.workloads import workload
from devtools.bench.plan import make_plan
from devtools.bench.worktree import revision_of, worktree

_SAMPLES = st.lists(st.floats(0, 1e6), min_size=1, max_size=50)


@pytest.mark.parametrize(
    ("share", "expected"),
    # Nearest rank of 20 samples: ceil(0.5 * 20) = 10th, ceil(0.95 * 20) = 19th, never below the first.
    [(0.5, 10), (0.95, 19), (1.0, 20), (0.0, 1)],
)
def test_a_percentile_is_the_sample_of_that_rank(share: float, expected: float) -> None:
    assert percentile([float(n) for n in range(20, 0, -1)], share) == expected


@given(_SAMPLES, st.floats(0, 1))
def test_a_percentile_was_measured_and_covers_its_share(samples: list[float], share: float) -> None:
    found = percentile(samples, share)
    assert found in samples
    assert sum(sample <= found for sample in samples) >= share * len(samples) - 1e-9


@given(_SAMPLES)
def test_the_median_does_not_depend_on_order_and_lies_between(samples: list[float]) -> None:
    assert median(samples) == median(samples[::-1])
    assert min(samples) <= median(samples) <= max(samples)


def test_an_even_count_has_the_mean_of_the_middle_two() -> None:
    assert median([4, 1, 3, 2]) == 2.5


def test_the_spread_is_the_range_by_the_median() -> None:
    assert spread([8, 10, 12]) == 0.4
    assert spread([7]) == 0


def test_no_samples_are_an_error_not_a_zero() -> None:
    for statistic in (median, spread, lambda samples: percentile(samples, 0.5)):
        with pytest.raises(ValueError, match="no samples"):
            statistic([])


def test_a_round_subtracts_the_bare_model_and_shares_out_processor_time() -> None:
    measured = Measured(
        {"total_s": [0.03, 0.05], "first_s": [0.02, 0.02], "window_s": 0.5},
        {"host": Usage(1.0, 0)},
        {"host": Usage(1.1, 3 * MIB)},
    )
    bare = Measured({"total_s": [0.01], "first_s": [0.005], "window_s": 1.0}, {}, {})
    one = round_of(measured, bare)
    assert one.turns == 2
    assert one.figures["turns_per_s"] == 4  # two in half a second
    assert one.figures["over_e2e_p50_ms"] == pytest.approx(20)  # 30 - 10
    assert one.figures["over_e2e_p95_ms"] == pytest.approx(40)  # 50 - 10
    assert one.figures["over_first_p50_ms"] == pytest.approx(15)  # 20 - 5
    assert one.cpu_ms_per_turn["host"] == pytest.approx(50)  # 0.1 s for two
    assert one.cpu_share["host"] == pytest.approx(0.2)  # 0.1 s of 0.5
    assert one.memory_mib["host"] == 3


def test_growth_is_the_ratio_of_medians_over_all_rounds() -> None:
    runs = [
        {"early_s": [0.02, 0.02], "late_s": [0.03], "bare_early_s": [0.001], "bare_late_s": [0.002]},
        {"early_s": [0.9], "late_s": [0.03, 0.9], "bare_early_s": [0.001], "bare_late_s": [0.002]},
    ]
    found = growth_of("here", 100, runs)
    assert found == GrowthResult("here", 100, 20, 30, 1, 2)
    assert found.ratio == 1.5


def _envelope(kind: str, **data: object) -> dict[str, object]:
    return {"seq": 1, "type": kind, "session_id": "s", "turn_id": "t", "message_id": "m", "data": data}


def _events() -> list[dict[str, object]]:
    frames: list[dict[str, object]] = [
        {"type": "message_start", "attempt": 1},
        {"type": "content_delta", "index": 0, "text": "lost"},
        {"type": "message_start", "attempt": 2},
        {"type": "content_delta", "index": 0, "text": "Dobrý "},
        {"type": "content_delta", "index": 1, "text": "den 🙂"},
    ]
    chunks = [_envelope("stream.chunk", frame=frame) for frame in frames]
    return [
        _envelope("stream.started"),
        _envelope("tool_call.pending", approval={"id": "approval-7", "status": "pending"}),
        *chunks,
        _envelope("stream.ended", status="completed"),
    ]


def _session_sse() -> bytes:
    return b"".join(b"id: 1\nevent: %b\ndata: %b\n\n" % (str(e["type"]).encode(), orjson.dumps(e)) for e in _events())


def _turn_sse() -> bytes:
    parts = []
    for event in _events():
        data = event["data"]
        assert isinstance(data, dict)
        if event["type"] == "stream.chunk":
            frame = data["frame"]
            parts.append(
                b"event: %b\ndata: %b\n\n"
                % (frame["type"].encode(), orjson.dumps(event | frame | {"type": event["type"]}))
            )
        elif event["type"] == "stream.ended":
            parts.append(b"event: end\ndata: %b\n\n" % orjson.dumps(data))
    return b": keep-alive\n\n" + b"".join(parts)


def _signalr() -> bytes:
    ping = b'{"type":6}\x1e'
    calls = [orjson.dumps({"type": 1, "target": "event", "arguments": [event]}) + b"\x1e" for event in _events()]
    return ping + b"".join(calls)


_STREAMS = [
    pytest.param(TURN_SSE, _turn_sse(), False, id="a turn's stream"),
    pytest.param(SESSION_SSE, _session_sse(), True, id="a session's events"),
    pytest.param(SIGNALR, _signalr(), True, id="signalr"),
]


@pytest.mark.parametrize("step", [1, 7, 100_000])
@pytest.mark.parametrize(("framing", "stream", "tells_of_approvals"), _STREAMS)
def test_a_turn_is_read_the_same_however_its_bytes_are_cut(
    framing: Framing, stream: bytes, tells_of_approvals: bool, step: int
) -> None:
    view = TurnView(framing)
    approvals = []
    for start in range(0, len(stream), step):
        assert view.ended_at is None
        view.feed(stream[start : start + step], float(min(start + step, len(stream))))
        if (approval := view.new_approval()) is not None:
            approvals.append(approval)
    assert view.ended_at == len(stream)
    assert view.first_at is not None
    assert view.first_at <= stream.find(b"content_delta") + len(b"content_delta") + step
    assert view.text() == "Dobrý den 🙂"
    assert approvals == (["approval-7"] if tells_of_approvals else [])
    view.check_completed()


def test_a_turn_that_failed_is_not_a_measurement() -> None:
    view = TurnView(TURN_SSE)
    view.feed(_turn_sse().replace(b'"completed"', b'"failed"'), 1.0)
    with pytest.raises(UnexpectedTurn, match="did not complete"):
        view.check_completed()


@pytest.mark.parametrize(("name", "calls"), [("W1", 1), ("W2", 2), ("W3", 2), ("realistic", 1)])
def test_a_bare_turn_makes_as_many_model_calls_as_the_workload(name: str, calls: int) -> None:
    bodies = workload(name, sink_url="http://127.0.0.1:1/sink").bare_requests([], history=3)
    assert len(bodies) == calls
    messages = orjson.loads(bodies[0])["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant"] * 3 + ["user"]
    assert messages[-1]["content"].startswith("#script {")


def test_the_quick_plan_has_all_workloads_at_all_sizes() -> None:
    plan = make_plan(only=(), sessions=(1, 64), quick=True, rounds=None, seconds=None, watch="sse")
    names = [case.name for case in plan.cases]
    assert names == ["W1/1", "W1/64", "W2/1", "W2/64", "W3/1", "W3/64", "realistic/1"]
    assert plan.rounds == 1
    assert plan.growth is not None
    assert plan.growth.turns == 99  # the next is turn 100


def test_a_profile_charges_the_standard_library_to_its_caller() -> None:
    root = "process 1:host;main (devhost/cli.py:1);Runner.run (asyncio/runners.py:118)"
    folded = (
        f"{root} 2\n"
        f"{root};post (triggers/sessions/messages.py:9);connect (psycopg/a.py:1);enter (contextlib.py:3) 6\n"
        f"{root};post (triggers/sessions/messages.py:7);dumps (json/encoder.py:1) 2\n"
    )
    lines = summary(folded, expected=20).splitlines()
    assert lines[0].endswith("50%")
    assert " 60.0%         60.0%  postgres client" in lines
    assert " 20.0%         20.0%  event loop" in lines
    assert " 80.0%  post (triggers/sessions/messages.py)" in lines  # of two lines of that function


def test_a_revision_is_checked_out_beside_the_checkout_and_removed(tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    repository.mkdir()

    def git(*arguments: str) -> None:
        identity = ("-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
        subprocess.run(["git", *identity, *arguments], cwd=repository, check=True, capture_output=True)

    git("init")
    (repository / "file").write_text("old")
    git("add", "file")
    git("commit", "-m", "old")
    (repository / "file").write_text("new")
    assert revision_of(repository).endswith("+")
    with worktree(repository, "HEAD", tmp_path / "other") as other:
        assert (other / "file").read_text() == "old"
        assert not revision_of(other).endswith("+")
    assert not (tmp_path / "other").exists()
    with pytest.raises(ServerError, match="git worktree failed"), worktree(repository, "no-such", tmp_path / "other"):
        pytest.fail("there is no such revision")


def test_the_costs_of_statements_are_named_as_the_app_names_them_and_summed_without_what_is_inside_of_others() -> None:
    def row(query: str, *, toplevel: bool, run_ms: float) -> dict[str, object]:
        counts = {"calls": 10, "plans": 0, "blocks": 40, "wal_records": 5, "wal_bytes": 500}
        return {"query": query, "toplevel": toplevel, "plan_ms": 0.0, "run_ms": run_ms, **counts}

    claimed = "SELECT EXISTS(SELECT $2 FROM turns WHERE session_id = $1 AND ended_at IS NULL)AS open"
    said = table([row(claimed, toplevel=True, run_ms=20.0), row("SELECT $1", toplevel=False, run_ms=8.0)], turns=10)

    lines = [" ".join(line.split()) for line in said.splitlines()[1:]]
    assert lines == [
        "1.00 0.00 0.000 2.000 4.0 0.5 50 has_open_turns",
        "1.00 0.00 0.000 0.800 4.0 0.5 50 SELECT $1",
        "1.00 0.00 0.000 2.000 4.0 0.5 50 all",
    ]
