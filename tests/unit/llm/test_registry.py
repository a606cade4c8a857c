"""The models there are: found under any of their names, corrected by the operator, and what a use of them costs."""

from __future__ import annotations

from decimal import Decimal
from importlib.resources import files

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import ConfigError
from shared.sessions.llm.registry import Model, ModelApi, ModelRegistry, parse_models
from shared.sessions.models import ReasoningEffort, Usage

PUBLIC = orjson.loads((files("shared.sessions.llm") / "models.json").read_bytes())["models"]


def test_the_file_holds_each_model_once_and_says_where_from() -> None:
    names = [model["name"].lower() for model in PUBLIC]

    assert len(names) == len(set(names)) == 65
    assert all(model["source"] and model["seen"] for model in PUBLIC)


@pytest.mark.parametrize("entry", PUBLIC, ids=lambda entry: str(entry["name"]))
def test_every_model_of_the_file_is_found_and_makes_sense(entry: dict[str, object]) -> None:
    model = ModelRegistry().find(str(entry["name"]))

    assert model.name == entry["name"]
    assert model.reasons is (None if model.efforts is None else len(model.efforts) > 0)
    assert (model.input_usd is None) == (model.output_usd is None), "half a price is none"
    if model.context_tokens is not None and model.max_output_tokens is not None:
        assert model.max_output_tokens <= model.context_tokens
    if model.cached_input_usd is not None:
        assert model.input_usd is not None
        assert model.cached_input_usd <= model.input_usd
    assert model.efforts is None or len(model.efforts) == len(set(model.efforts))


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("gpt-5.4", "gpt-5.4"),
        ("GPT-5.4", "gpt-5.4"),
        ("gpt-5.4-2026-03-05", "gpt-5.4"),
        ("openai/GPT-5.4-2026-03-05", "gpt-5.4"),
        ("deepseek-v4-pro", "DeepSeek-V4-Pro"),
        ("azure/deepseek-ai/DeepSeek-V4-Pro", "DeepSeek-V4-Pro"),
        ("qwen3:8b", "qwen3"),
        ("library/qwen3:8b-q4_K_M", "qwen3"),
        ("openai/gpt-oss-120b", "gpt-oss-120b"),
        ("gpt-oss:20b", "gpt-oss:20b"),  # the tag is in the file: it is another one than gpt-oss-20b
    ],
)
def test_a_model_is_found_in_any_case_with_a_date_a_tag_or_a_vendor(asked: str, found: str) -> None:
    assert ModelRegistry().find(asked).name == found


@pytest.mark.parametrize("name", ["my-deployment", "gpt-5.4-turbo", "gpt-5.4-2026", "gpt", "/", ":", "qwen3-8b"])
def test_of_a_model_that_is_in_no_list_nothing_is_known(name: str) -> None:
    assert ModelRegistry().find(name) == Model(name=name)
    assert not ModelRegistry().find(name).is_priced


@given(st.text(min_size=1, max_size=128))
def test_any_name_at_all_is_answered(name: str) -> None:
    found = ModelRegistry().find(name)

    assert found.name == name or found.name.lower() in name.lower()


# The setting MODELS. -----------------------------------------------------------------------------


def test_an_entry_is_a_known_model_with_what_differs() -> None:
    text = '{"chat": {"model": "gpt-5.4", "input_usd": 2.25, "context_tokens": null}, "own": {"efforts": []}}'
    registry = ModelRegistry(parse_models(text))

    chat, known = registry.find("chat"), registry.find("gpt-5.4")
    changed = {"name", "input_usd", "context_tokens", "source", "seen"}
    assert chat.model_dump(exclude=changed) == known.model_dump(exclude=changed)
    assert (chat.name, chat.input_usd, chat.context_tokens) == ("chat", 2.25, None)
    assert registry.find("own") == Model(name="own", efforts=[])
    assert registry.names == {"chat", "own"}


def test_an_entry_goes_before_the_file() -> None:
    registry = ModelRegistry(parse_models('{"gpt-4o": {"context_tokens": 8000}}'))

    assert registry.find("gpt-4o") == Model(name="gpt-4o", context_tokens=8_000)
    assert registry.find("gpt-4o-mini").context_tokens == 128_000


def test_only_the_api_that_an_entry_names_is_the_operators_word() -> None:
    text = '{"a": {"model": "gpt-5.4"}, "b": {"model": "gpt-5.4", "api": "chat"}, "c": {"input_usd": 1}}'
    registry = ModelRegistry(parse_models(text))

    assert [registry.api_of(name) for name in ("a", "b", "c", "gpt-5.4")] == [None, ModelApi.CHAT, None, None]
    assert [registry.find(name).api for name in ("a", "b")] == [ModelApi.RESPONSES, ModelApi.CHAT]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("{", "not valid JSON"),
        ("[]", "JSON object by deployment"),
        ('"gpt-5.4"', "JSON object by deployment"),
        ('{"my-chat": 1}', "my-chat"),
        ('{"my-chat": {"model": "gpt-99"}}', "gpt-99"),
        ('{"my-chat": {"modle": "gpt-5.4"}}', "my-chat.modle"),
        ('{"my-chat": {"input_usd": -1}}', "my-chat.input_usd"),
        ('{"my-chat": {"input_usd": "free"}}', "my-chat.input_usd"),
        ('{"my-chat": {"context_tokens": 255}}', "my-chat.context_tokens"),
        ('{"my-chat": {"context_tokens": 4096.5}}', "my-chat.context_tokens"),
        ('{"my-chat": {"api": "completions"}}', "my-chat.api"),
        ('{"my-chat": {"efforts": ["low", "huge"]}}', "my-chat.efforts.1"),
        ('{"my-chat": {"name": "other"}}', "my-chat.name"),
        ('{"my-chat": {"chosen_api": "chat"}}', "my-chat.chosen_api"),
        ('{"fine": {}, "my-chat": {"files": 3}}', "my-chat.files"),
        ('{"": {}}', "name"),
        ('{"a\\nb": {"files": 3}}', "files"),
    ],
)
def test_what_is_wrong_with_an_entry_is_one_line_that_names_it(text: str, named: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse_models(text)

    assert named in str(refused.value)
    assert "\n" not in str(refused.value)


# What a use costs. -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "usage", "cost"),
    [
        # gpt-5.4: 2.5, 0.25 cached, 15 dollars a million.
        ("gpt-5.4", Usage(input_tokens=1_000, output_tokens=100), "0.004"),  # 0.0025 + 0.0015
        ("gpt-5.4", Usage(input_tokens=1_000, output_tokens=100, cached_input_tokens=800), "0.0022"),  # .5+.2+1.5 m
        ("gpt-5.4", Usage(input_tokens=1_000, output_tokens=100, reasoning_tokens=90), "0.004"),  # part of the output
        ("gpt-5.4", Usage(input_tokens=10, cached_input_tokens=900), "0.0000025"),  # no more cached than was read
        ("gpt-5.4", Usage(), "0"),
        ("gpt-5-nano", Usage(input_tokens=1), "0.00000005"),  # a twentieth of a millionth
        ("gpt-5.4-pro", Usage(input_tokens=10, cached_input_tokens=10), "0.0003"),  # no price of its own: the full one
        ("llama3.1", Usage(input_tokens=10**9, output_tokens=10**9), "0"),
        ("gpt-oss-20b", Usage(input_tokens=1), None),
        ("my-deployment", Usage(input_tokens=1), None),
    ],
)
def test_a_use_costs_what_its_tokens_do_to_the_last_fraction(model: str, usage: Usage, cost: str | None) -> None:
    found = ModelRegistry().find(model).cost_usd(usage)

    assert found == (None if cost is None else Decimal(cost))


@given(
    parts=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 10**6)), max_size=20),
    prices=st.tuples(*[st.integers(0, 10**6).map(lambda n: n / 1000)] * 3),
)
def test_costs_add_up_without_rounding(parts: list[tuple[int, int, int]], prices: tuple[float, float, float]) -> None:
    model = Model(name="m", input_usd=prices[0], cached_input_usd=prices[1], output_usd=prices[2])
    uses = [Usage(input_tokens=a + b, cached_input_tokens=b, output_tokens=c) for a, b, c in parts]
    together = Usage(
        input_tokens=sum(use.input_tokens for use in uses),
        cached_input_tokens=sum(use.cached_input_tokens for use in uses),
        output_tokens=sum(use.output_tokens for use in uses),
    )

    assert sum((model.cost_usd(use) or Decimal(0) for use in uses), Decimal(0)) == model.cost_usd(together)


def test_a_price_of_one_side_alone_is_none() -> None:
    half = Model(name="m", input_usd=1.0)

    assert not half.is_priced
    assert half.cost_usd(Usage(input_tokens=1)) is None


def test_efforts_are_named_as_the_sessions_setting_names_them() -> None:
    assert {effort for model in PUBLIC for effort in model.get("efforts") or ()} <= set(ReasoningEffort)
