"""The model registry, as data: each model's API for tools, window, supported parameters and prices.

`models.json` holds public facts with their sources; the setting MODELS adds to them or overrides them, by deployment or
model. A model that is in neither works too: refused parameters are learned at run time, and its cost is unknown.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from enum import StrEnum
from functools import cache
from importlib.resources import files

import orjson
from pydantic import Field, ValidationError

from shared.errors import ConfigError
from shared.sessions.limits.budgets import Price
from shared.sessions.models import ReasoningEffort, Usage, Value

_DATED = re.compile(r"-\d{4}-\d{2}-\d{2}$")
_MILLION = 1_000_000
_MOST_FOUND = 1_000


class ModelApi(StrEnum):
    RESPONSES = "responses"  # POST /responses
    CHAT = "chat"  # POST /chat/completions


class Model(Value):
    """Facts about one model; null: not known."""

    name: str = Field(min_length=1, max_length=128, description="Name of a deployment or a model")
    api: ModelApi | None = Field(None, description="The API over which it supports function tools; null: either")
    context_tokens: int | None = Field(None, ge=256, le=100_000_000, description="Input and output of one call")
    max_output_tokens: int | None = Field(None, ge=1, le=100_000_000)
    input_usd: float | None = Field(None, ge=0, description="US dollars per million input tokens")
    cached_input_usd: float | None = Field(None, ge=0, description="US dollars per million cached input tokens")
    output_usd: float | None = Field(None, ge=0, description="US dollars per million output tokens, with reasoning")
    long_from_tokens: int | None = Field(None, ge=1, description="Above this input the long factors apply to the call")
    long_input_factor: float = Field(1, ge=1)
    long_output_factor: float = Field(1, ge=1)
    images: bool | None = None
    files: bool | None = Field(None, description="Reads PDF files directly")
    temperature: bool | None = Field(None, description="Supports `temperature`")
    efforts: list[ReasoningEffort] | None = Field(None, description="Of `reasoning_effort`; empty: does not reason")
    chosen_api: ModelApi | None = Field(None, description="The operator's choice; overrides `api`")
    source: str | None = None
    seen: str | None = Field(None, description="Year and month of the source")

    @property
    def reasons(self) -> bool | None:
        return None if self.efforts is None else bool(self.efforts)

    @property
    def is_priced(self) -> bool:
        return self.input_usd is not None and self.output_usd is not None

    def price(self, *, reads: int) -> Price:
        """The price of a call with `reads` input tokens. Call it only if `is_priced`."""
        assert self.input_usd is not None
        assert self.output_usd is not None
        if self.long_from_tokens is None or reads <= self.long_from_tokens:
            return Price(self.input_usd, self.output_usd)
        return Price(self.input_usd * self.long_input_factor, self.output_usd * self.long_output_factor)

    def cost_usd(self, usage: Usage) -> Decimal | None:
        """The cost of one call; None: the price is unknown. Exact, since a token may cost less than 1e-6 dollars."""
        if self.input_usd is None or self.output_usd is None:
            return None
        cached = min(usage.cached_input_tokens, usage.input_tokens)
        cached_usd = self.input_usd if self.cached_input_usd is None else self.cached_input_usd
        read = Decimal(str(self.input_usd)) * (usage.input_tokens - cached) + Decimal(str(cached_usd)) * cached
        written = Decimal(str(self.output_usd)) * usage.output_tokens
        if self.long_from_tokens is not None and usage.input_tokens > self.long_from_tokens:
            read *= Decimal(str(self.long_input_factor))
            written *= Decimal(str(self.long_output_factor))
        return (read + written) / _MILLION

    def priced(self, usage: Usage) -> Usage:
        """The usage with its cost, if known."""
        cost = self.cost_usd(usage)
        return usage if cost is None else usage.model_copy(update={"cost_usd": float(cost)})


class ModelRegistry:
    """Public model facts, overridden by the operator's."""

    def __init__(self, own: Mapping[str, Model] | None = None) -> None:
        self._own = dict(own or {})
        self._found: dict[str, Model] = {}
        """Cache of lookups, since each step makes several."""

    def find(self, name: str) -> Model:
        """The facts about a model or deployment; for an unlisted one only its name."""
        own = self._own.get(name) or self._found.get(name)
        if own is not None:
            return own
        if len(self._found) >= _MOST_FOUND:  # sessions may ask for any name
            self._found.clear()
        found = self._found[name] = _found(name) or Model(name=name)
        return found

    def api_of(self, name: str) -> ModelApi | None:
        """The operator's choice; None: not set."""
        own = self._own.get(name)
        return None if own is None else own.chosen_api

    @property
    def names(self) -> frozenset[str]:
        """The names in the setting MODELS."""
        return frozenset(self._own)


class ModelEntry(Value):
    """One entry of the setting MODELS: the known model of a deployment, and overrides of its facts."""

    model: str | None = Field(None, description="The model of this deployment, by its name in models.json")
    api: ModelApi | None = None
    context_tokens: int | None = Field(None, ge=256, le=100_000_000)
    max_output_tokens: int | None = Field(None, ge=1, le=100_000_000)
    input_usd: float | None = Field(None, ge=0)
    cached_input_usd: float | None = Field(None, ge=0)
    output_usd: float | None = Field(None, ge=0)
    images: bool | None = None
    files: bool | None = None
    temperature: bool | None = None
    efforts: list[ReasoningEffort] | None = None


def parse_models(text: str) -> dict[str, Model]:
    """Parse the setting MODELS: `{"my-deployment": {"model": "gpt-5.4", "input_usd": 2.5}}`. Raises ConfigError."""
    try:
        given = orjson.loads(text)
    except orjson.JSONDecodeError as exc:
        raise ConfigError(f"is not valid JSON: {exc}") from None
    if not isinstance(given, dict):
        raise ConfigError('must be a JSON object by deployment: {"my-deployment": {"model": "gpt-5.4"}}')
    found: dict[str, Model] = {}
    for name, value in given.items():
        try:
            entry = ModelEntry.model_validate(value)
            base = {}
            if entry.model is not None:
                known = _found(entry.model)
                if known is None:
                    raise ConfigError(f"{name}: there is no model {entry.model!r} in models.json; leave `model` out")
                base = known.model_dump(exclude={"source", "seen"})
            said = entry.model_dump(exclude={"model"}, exclude_unset=True)
            found[name] = Model.model_validate(base | said | {"name": name, "chosen_api": entry.api})
        except ValidationError as exc:
            first = exc.errors(include_url=False, include_input=False)[0]
            where = ".".join(str(part) for part in (name, *first["loc"]))
            raise ConfigError(" ".join(f"{where}: {first['msg']}".split())) from None
    return found


@cache
def _public() -> dict[str, Model]:
    """The models of models.json by lower-case name, since deployment names come in any case."""
    text = (files(__package__) / "models.json").read_bytes()
    return {model["name"].lower(): Model.model_validate(model) for model in orjson.loads(text)["models"]}


def _found(name: str) -> Model | None:
    """Finds names with a date, tag or vendor too: `gpt-5.4-2026-03-05`, `qwen3:8b`, `openai/gpt-oss-120b`."""
    public = _public()
    bare = name.lower().rpartition("/")[2]
    for candidate in (name.lower(), bare, _DATED.sub("", bare), bare.partition(":")[0]):
        if candidate in public:
            return public[candidate]
    return None
