"""Reads a model's context window from a server's list of models.

Sources: the lists of llama.cpp (`meta.n_ctx`), vLLM (`max_model_len`), Groq (`context_window`), Mistral
(`max_context_length`), OpenRouter and Together (`context_length`). OpenAI's and Azure's lists do not contain it.
"""

from __future__ import annotations

from typing import Any

_FIELDS = ("max_model_len", "context_window", "max_context_length", "context_length")
_LEAST, _MOST = 256, 100_000_000


def window_of(models: Any, model: str) -> int | None:
    """The model's context window in tokens, from the body of `GET /models`; None: not listed.

    A server with only one model may list it under another name than requests use.
    """
    listed = models.get("data") if isinstance(models, dict) else models
    found = [item for item in listed if isinstance(item, dict)] if isinstance(listed, list) else []
    named = [item for item in found if item.get("id") == model] or (found if len(found) == 1 else [])
    if not named:
        return None
    item = named[0]
    meta = item.get("meta")
    values = [meta.get("n_ctx")] if isinstance(meta, dict) else []
    values += [item.get(name) for name in _FIELDS]
    return next((value for value in values if _is_window(value)), None)


def _is_window(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and _LEAST <= value <= _MOST
