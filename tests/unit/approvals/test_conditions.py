"""Conditions on arguments: what is true, what is false, and that what cannot be told is never false."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr, TypeAdapter, ValidationError

from devtools.console import WEB
from shared.sessions.approvals.rules.conditions import MAX_ITEMS, MAX_TEXT_CHARS, described, judged, values_at
from shared.sessions.records.approval_policy import ApprovalPolicy
from shared.sessions.records.conditions import MAX_EXACT, OPERATORS, Argument, Condition

_CONDITION: TypeAdapter[Any] = TypeAdapter(Condition)
UNTOLD = None


def _truth(condition: dict[str, Any], **arguments: Any) -> bool | None:
    return judged(_CONDITION.validate_python(condition), arguments).truth


@pytest.mark.parametrize(
    ("operators", "value", "truth"),
    [
        ({"gt": 1000}, 1000.01, True),
        ({"gt": 1000}, 1000, False),
        ({"ge": 1000}, 1000.0, True),
        ({"lt": 5}, 4, True),
        ({"le": 5}, 5.1, False),
        ({"ge": 10, "lt": 20}, 15, True),
        ({"ge": 10, "lt": 20}, 20, False),
        ({"eq": 0.1}, Decimal("0.1"), True),
        ({"gt": 0.1}, Decimal("0.1"), False),
        ({"eq": 5}, 5.0, True),
        ({"ne": 5}, 6, True),
        ({"eq": True}, True, True),
        ({"eq": True}, False, False),
        ({"eq": "EUR"}, "EUR", True),
        ({"eq": "EUR"}, "USD", False),
        ({"ne": "EUR"}, "USD", True),
        ({"one_of": ["a", 1, True]}, 1, True),
        ({"one_of": ["a", "b"]}, "c", False),
        ({"matches": "^DE[0-9]+$"}, "DE12", True),
        ({"matches": "^DE[0-9]+$"}, "FR12", False),
        ({"exists": True}, 0, True),
        ({"exists": True}, None, False),
        ({"exists": False}, None, True),
    ],
    ids=str,
)
def test_a_comparison_means_what_it_says(operators: dict[str, Any], value: Any, truth: bool) -> None:
    assert _truth({"argument": "a", **operators}, a=value) is truth


@pytest.mark.parametrize(
    ("operators", "value"),
    [
        *(({"gt": 1000}, value) for value in ("5000", "5", True, None, [5], {}, "NaN", "Infinity", "\u0665")),
        *(({"gt": 1000}, value) for value in (float("nan"), float("inf"), float("-inf"), Decimal("NaN"))),
        *(({"lt": 1000}, value) for value in (MAX_EXACT + 1, -MAX_EXACT - 1, 1e300, Decimal("-1e999"), 10**400)),
        ({"eq": 1}, True),
        ({"ne": 1}, True),
        ({"eq": True}, 1),
        ({"eq": True}, "true"),
        ({"eq": "1"}, 1),
        ({"eq": "US"}, "us"),
        ({"eq": "US"}, " US "),
        ({"eq": "US"}, "\uff35\uff33"),  # full width
        ({"eq": "paypal.com"}, "p\u0430ypal.com"),  # a Cyrillic a
        ({"ne": "admin"}, "ad\u200bmin"),
        ({"one_of": ["US", "CN"]}, "cn"),
        ({"matches": "drop"}, "DROP TABLE"),
        ({"matches": "drop"}, "dr\u043ep table"),
        ({"matches": "^[a-z]+$"}, "abc\n"),
        ({"matches": "a"}, "a" * (MAX_TEXT_CHARS + 1)),
        ({"matches": "a"}, 5),
        ({"eq": "**********"}, SecretStr("s")),
        ({"eq": "x"}, ...),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_cannot_be_told_is_neither_true_nor_false_even_negated(operators: dict[str, Any], value: Any) -> None:
    condition = {"argument": "a", **operators}
    assert _truth(condition, a=value) is UNTOLD
    assert _truth({"none_of": [condition]}, a=value) is UNTOLD


@pytest.mark.parametrize("operator", [name for name in OPERATORS if name != "exists"])
def test_a_missing_argument_cannot_be_compared(operator: str) -> None:
    operand: Any = {"one_of": ["a"], "matches": "a"}.get(operator, 1)
    assert _truth({"argument": "a", operator: operand}, b=1) is UNTOLD
    assert _truth({"argument": "/a/b", operator: operand}, a={"c": 1}) is UNTOLD
    assert _truth({"argument": "/a/b", operator: operand}, a=7) is UNTOLD
    assert _truth({"argument": "/a/b", "exists": False}, a=7) is UNTOLD
    assert _truth({"argument": "/a/b", "exists": False}, a={}) is True


class TestPaths:
    LINES = ({"price": 3, "to": {"x/y": "DE"}}, {"price": 70, "to": {"x/y": "FR"}})

    @pytest.mark.parametrize(
        ("condition", "truth"),
        [
            ({"argument": "/lines/1/price", "gt": 50}, True),
            ({"argument": "/lines/0/price", "gt": 50}, False),
            ({"argument": "/lines/9/price", "gt": 50}, UNTOLD),
            ({"argument": "/lines/-1/price", "gt": 50}, UNTOLD),
            ({"argument": "/lines/99999999999999999999/price", "gt": 50}, UNTOLD),
            ({"argument": "/lines/*/price", "gt": 50}, True),
            ({"argument": "/lines/*/price", "gt": 70}, False),
            ({"argument": "/lines/*/to/x~1y", "eq": "FR"}, True),
            ({"argument": "/none/*/price", "gt": 1}, False),
            ({"argument": "a.b", "eq": 1}, True),
            ({"argument": "*", "exists": True}, False),
        ],
        ids=str,
    )
    def test_a_path_leads_to_what_it_names(self, condition: dict[str, Any], truth: bool | None) -> None:
        assert _truth(condition, lines=list(self.LINES), none=[], **{"a.b": 1}) is truth

    def test_one_item_that_cannot_be_told_leaves_all_untold_unless_another_decides(self) -> None:
        condition = {"argument": "/lines/*/price", "gt": 50}
        assert _truth(condition, lines=[{"price": 1}, {"price": "70"}]) is UNTOLD
        assert _truth(condition, lines=[{"price": 1}, {"price": "70"}, {"price": 51}]) is True
        assert _truth(condition, lines=[{"price": 1}] * (MAX_ITEMS + 1)) is UNTOLD
        half = "b" * (MAX_TEXT_CHARS // 2 + 1)
        assert _truth({"argument": "/lines/*", "matches": "a"}, lines=[half]) is False
        assert _truth({"argument": "/lines/*", "matches": "a"}, lines=[half, half]) is UNTOLD

    @pytest.mark.parametrize(
        ("url", "host", "origin"),
        [
            ("https://Api.Example.test/a?b", "api.example.test", "https://api.example.test"),
            ("https://api.example.test.:443/", "api.example.test", "https://api.example.test"),
            ("http://api.example.test:8080/", "api.example.test:8080", "http://api.example.test:8080"),
            ("http://[::1]:80/", "[::1]", "http://[::1]"),
        ],
    )
    def test_a_part_of_a_url_is_what_would_be_connected_to(self, url: str, host: str, origin: str) -> None:
        for part, value in (("host", host), ("origin", origin)):
            assert values_at(Argument(argument="url", part=part), {"url": url}) == [value]  # type: ignore[arg-type]

    @pytest.mark.parametrize("url", ["https://a@b.test/", "https://good.test\\@evil.test", "no url", "ftp://a.test", 5])
    def test_what_is_no_url_to_the_fetcher_has_no_part(self, url: Any) -> None:
        assert _truth({"argument": "url", "part": "host", "ne": "good.test"}, url=url) is UNTOLD


@pytest.mark.parametrize("value", [SecretStr("s"), {"key": SecretStr("s")}, ..., {"key": ...}], ids=str)
def test_what_json_tells_of_all_values_alike_binds_no_grant(value: Any) -> None:
    assert values_at(Argument(argument="a"), {"a": value}) is None


class TestCombinations:
    YES: ClassVar[dict[str, Any]] = {"argument": "a", "eq": 1}
    NO: ClassVar[dict[str, Any]] = {"argument": "a", "eq": 2}
    WHO: ClassVar[dict[str, Any]] = {"argument": "b", "eq": 1}

    @pytest.mark.parametrize(
        ("condition", "truth"),
        [
            ({"all_of": [YES, YES]}, True),
            ({"all_of": [YES, WHO]}, UNTOLD),
            ({"all_of": [WHO, NO]}, False),
            ({"any_of": [NO, YES]}, True),
            ({"any_of": [WHO, NO]}, UNTOLD),
            ({"any_of": [WHO, YES]}, True),
            ({"any_of": [NO, NO]}, False),
            ({"none_of": [NO]}, True),
            ({"none_of": [NO, YES]}, False),
            ({"none_of": [NO, WHO]}, UNTOLD),
        ],
        ids=str,
    )
    def test_they_follow_the_logic_of_three_values(self, condition: dict[str, Any], truth: bool | None) -> None:
        assert _truth(condition, a=1) is truth


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab*"), inner, max_size=3),
    max_leaves=8,
)
_LEAF = st.fixed_dictionaries(
    {"argument": st.sampled_from(["a", "/a/*", "/a/b", "/a/0/b", "/", "*"])},
    optional={
        "eq": st.booleans() | st.integers(-5, 5) | st.text(max_size=3),
        "gt": st.integers(-5, 5),
        "matches": st.sampled_from(["a", "^$", "[0-9]+"]),
        "part": st.sampled_from(["host", "origin"]),
    },
).map(lambda leaf: leaf | ({} if leaf.keys() & set(OPERATORS) else {"exists": True}))
_ANY = st.recursive(
    _LEAF,
    lambda inner: st.sampled_from(["all_of", "any_of", "none_of"]).flatmap(
        lambda word: st.fixed_dictionaries({word: st.lists(inner, min_size=1, max_size=2)})
    ),
    max_leaves=4,
)


@given(_ANY, st.dictionaries(st.sampled_from(["a", "b", ""]), _JSON, max_size=3))
def test_every_condition_has_an_answer_and_words_for_all_json(
    condition: dict[str, Any], arguments: dict[str, Any]
) -> None:
    parsed = _CONDITION.validate_python(condition)
    found = judged(parsed, arguments)

    assert found.truth in (True, False, None)
    assert found.why
    assert described(parsed)
    assert _CONDITION.validate_python(_CONDITION.dump_python(parsed, mode="json")) == parsed


def test_a_condition_is_said_as_people_read_it() -> None:
    condition = {
        "any_of": [
            {"argument": "amount", "gt": 1000},
            {"all_of": [{"argument": "currency", "ne": "EUR"}, {"argument": "url", "part": "host", "one_of": ["a"]}]},
            {"argument": "/lines/*/price", "ge": 5, "lt": 10},
        ]
    }
    told = described(_CONDITION.validate_python(condition))
    assert told == (
        "amount > 1000 or (currency is not “EUR” and host of url is one of “a”) or lines.*.price ≥ 5 and < 10"
    )
    why = judged(_CONDITION.validate_python({"argument": "amount", "gt": 1000}), {"amount": "5"}).why
    assert why == "amount > 1000 cannot be told: it is no number of at most 2^53"


@pytest.mark.parametrize("pair", json.loads((WEB / "tests" / "condition-words.json").read_text()))
def test_a_condition_is_said_as_the_console_says_it(pair: dict[str, Any]) -> None:
    """The other half is `web/tests/policies.test.ts`."""
    assert described(_CONDITION.validate_python(pair["condition"])) == pair["words"]


def _nested(levels: int) -> dict[str, Any]:
    leaf: dict[str, Any] = {"argument": "a", "eq": 1}
    return leaf if levels == 0 else {"all_of": [_nested(levels - 1)]}


@pytest.mark.parametrize(
    "condition",
    [
        {},
        {"argument": "a"},
        {"argument": "a", "gt": "5"},
        {"argument": "a", "gt": True},
        {"argument": "a", "gt": float("nan")},
        {"argument": "a", "gt": 2**53 + 1},
        {"argument": "a", "eq": None},
        {"argument": "a", "eq": [1]},
        {"argument": "a", "above": 5},
        {"argument": "", "eq": 5},
        {"argument": "/a~2", "eq": 5},
        {"argument": "a", "one_of": []},
        {"argument": "a", "matches": "("},
        {"argument": "a", "matches": "(?=a)b"},
        {"argument": "a", "matches": "((a{500}){500}){500}"},
        {"argument": "a", "matches": "(a{90}){90}"},
        {"argument": "a", "part": "path", "eq": "x"},
        {"all_of": []},
        {"all_of": [{"argument": "a", "eq": 1}], "any_of": [{"argument": "a", "eq": 1}]},
        _nested(5),
        {"all_of": [{"any_of": [{"argument": "a", "eq": 1}] * 20}] * 6},
        {"all_of": [{"argument": "a", "one_of": list(range(50))}] * 2},
        "amount > 1000",
        None,
    ],
    ids=lambda value: str(value)[:60],
)
def test_a_condition_that_could_not_be_judged_is_none(condition: Any) -> None:
    with pytest.raises(ValidationError):
        ApprovalPolicy.model_validate({"rules": [{"name": "r", "when": condition}]})
