"""Options of the offline model: its pace, and refusals as on real servers."""

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
    """The server whose error is used when a request exceeds the context window."""
    models: tuple[str, ...] = ()
    """The existing models or deployments; empty: any name is accepted."""
    api_key: str | None = None
    """None: keys are not checked."""
    refused_parameters: tuple[str, ...] = ()
    """Names in the request, dotted where they are nested (`reasoning.summary`)."""
    tools_need_responses: bool = False
    """Refuse tools in chat completions, as the newest reasoning models do."""
    no_tool_choice: bool = False
    """Refuse tools unless one is named, as vLLM does without a tool-call parser."""
