from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from devhost.model.conversation import ToolCall
from devhost.model.reply import Reply, limited, split_tokens
from devhost.model.scripts.calls import CallLogs


@given(st.text())
def test_cutting_into_tokens_loses_nothing(text: str) -> None:
    assert "".join(split_tokens(text)) == text


def test_a_limit_may_cut_a_call_in_the_middle_of_its_arguments() -> None:
    reply = Reply(("a",), (ToolCall("1", "f", '{"x": 1}'),), "tool_calls")
    cut = limited(reply, 3)
    assert cut.finish_reason == "length"
    assert '{"x": 1}'.startswith(cut.tool_calls[0].arguments)
    assert limited(reply, 100) is reply


def test_the_oldest_key_is_forgotten_when_there_are_too_many() -> None:
    logs = CallLogs(max_keys=2)
    for key in ("a", "b", "a", "c"):
        logs.arrived(key)
    assert [logs.get(key).calls for key in ("a", "b", "c")] == [2, 0, 1]
