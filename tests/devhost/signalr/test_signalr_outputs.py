"""What a `signalR` output may hold."""

from __future__ import annotations

import json
from typing import Any

import pytest

from devhost.signalr.outputs import GroupChange, GroupVerb, HubMessage, read_output


@pytest.mark.parametrize("wrap", [json.dumps, lambda value: json.dumps(value).encode(), lambda value: value])
def test_text_bytes_and_parsed_json_are_the_same(wrap: Any) -> None:
    assert read_output(wrap({"target": "t", "arguments": [1]})) == [HubMessage("t", [1])]


def test_a_list_keeps_its_order_and_may_mix_messages_and_group_actions() -> None:
    assert read_output(
        [
            {"action": "add", "groupName": "g", "userId": "u"},
            {"target": "t", "arguments": [], "groupName": "g"},
            {"action": "removeAll", "userId": "u"},
        ]
    ) == [
        GroupChange(GroupVerb.ADD, "g", user_id="u"),
        HubMessage("t", [], group="g"),
        GroupChange(GroupVerb.REMOVE_ALL, None, user_id="u"),
    ]


def test_property_and_action_names_are_matched_without_case_and_null_means_absent() -> None:
    assert read_output({"Target": "t", "Arguments": [1], "UserId": "u", "GroupName": None}) == [
        HubMessage("t", [1], user_id="u")
    ]
    assert read_output({"Action": "Remove", "GroupName": "g", "ConnectionId": "c"}) == [
        GroupChange(GroupVerb.REMOVE, "g", connection_id="c")
    ]


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        ("not json", "is not JSON"),
        (5, "expected an object"),
        ([{"target": "t", "arguments": []}, "x"], r"output\[1\]: expected an object"),
        ({"target": "t"}, "neither a message"),
        ({}, "no properties"),
        ({"target": "", "arguments": []}, "target must be"),
        ({"target": "t", "arguments": {}}, "arguments must be an array"),
        ({"target": "t", "arguments": [], "userId": ""}, "userId is empty"),
        ({"target": "t", "arguments": [], "groupName": ""}, "groupName is empty"),
        ({"target": "t", "arguments": [], "userId": 7}, "userId must be a string"),
        ({"action": "join", "groupName": "g", "userId": "u"}, "action must be"),
        ({"action": "add", "groupName": "g"}, "needs a connectionId or a userId"),
        ({"action": "add", "userId": "u"}, "needs a groupName"),
    ],
)
def test_a_malformed_output_is_refused_by_name(value: Any, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        read_output(value)
