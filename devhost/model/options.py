"""How a server of the offline model behaves: its pace, and what it refuses as other servers do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

type Overflow = Literal["openai", "llama.cpp", "vllm", "mistral"]
OVERFLOWS: tuple[str, ...] = get_args(Overflow.__value__)


@dataclass(frozen=True, slots=True)
class ModelOptions:
    """Times in seconds."""

    scripted: bool = False
    first_s: float = 0.2
    token_s: float = 0.015
    context_tokens: int = 128_000
    overflow: Overflow = "openai"
    """Whose words tell that a request is longer than the window."""
    models: tuple[str, ...] = ()
    """The models or deployments there are; empty: whatever is asked for."""
    api_key: str | None = None
    """None: no key is looked at."""
    refused_parameters: tuple[str, ...] = ()
    """Names in the request, dotted where they are nested (`reasoning.summary`)."""
    tools_need_responses: bool = False
    """Chat completions with tools are refused, as the newest reasoning models do."""
    no_tool_choice: bool = False
    """Tools are refused unless one is named, as vLLM does without a parser for calls."""
