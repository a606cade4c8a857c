"""Reads the usage of a model call from both APIs, with the differences between servers.

Every number is one: what is none, or below zero, is 0, and a part is never more than its whole. Whether it can be true
of the call: `shared/sessions/model_requests/used.py`.
"""

from __future__ import annotations

import math
from typing import Any

from shared.sessions.models import JsonObject, Usage

_MAX_TOKENS = 10**9
"""Upper bound stored for one call; far above any model's usage."""


def chat_usage(usage: Any) -> Usage | None:
    """None: the server reported none. Zeros count as none too, since no request is empty."""
    if not isinstance(usage, dict):
        return None
    prompt = _tokens(usage, "prompt_tokens")
    read, written = _object(usage, "prompt_tokens_details"), _object(usage, "completion_tokens_details")
    return _said(
        input_tokens=prompt,
        # xAI and Gemini do not count reasoning as completion tokens, but the total is billed.
        output_tokens=max(_tokens(usage, "completion_tokens"), _tokens(usage, "total_tokens") - prompt),
        # From the details, else from the fields of DeepSeek and Moonshot.
        cached_input_tokens=_tokens(read, "cached_tokens")
        or _tokens(usage, "prompt_cache_hit_tokens")
        or _tokens(usage, "cached_tokens"),
        reasoning_tokens=_tokens(written, "reasoning_tokens"),
    )


def responses_usage(usage: Any) -> Usage | None:
    """None: the server reported none."""
    if not isinstance(usage, dict):
        return None
    return _said(
        input_tokens=_tokens(usage, "input_tokens"),
        output_tokens=_tokens(usage, "output_tokens"),
        cached_input_tokens=_tokens(_object(usage, "input_tokens_details"), "cached_tokens"),
        reasoning_tokens=_tokens(_object(usage, "output_tokens_details"), "reasoning_tokens"),
    )


def _said(*, input_tokens: int, output_tokens: int, cached_input_tokens: int, reasoning_tokens: int) -> Usage | None:
    if not input_tokens and not output_tokens:
        return None
    return Usage(
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        cached_input_tokens=min(cached_input_tokens, input_tokens),
        reasoning_tokens=min(reasoning_tokens, output_tokens),
    )


def _object(usage: JsonObject, name: str) -> JsonObject:
    found = usage.get(name)
    return found if isinstance(found, dict) else {}


def _tokens(usage: JsonObject, name: str) -> int:
    """A number of tokens; 0 for a value that is not a number."""
    value = usage.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or math.isnan(value):
        return 0
    return int(max(0, min(value, _MAX_TOKENS)))
