"""Recognises refusals about the context length, and extracts their numbers, by each server's wording.

Invariant: the numbers returned are the server's own. `read_tokens` is returned only if it exceeds the window: a shorter
request was refused for its answer's reserve, and its length does not show how the server counts.
"""

from __future__ import annotations

import re

from shared.adapters.models.refusals.refusal import Refusal
from shared.sessions.llm.protocol import ContextOverflow

_CODES = frozenset({"context_length_exceeded", "exceed_context_size_error", "context_window_exceeded"})

_WORDINGS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        # OpenAI, Azure, DeepSeek, older vLLM, OpenRouter: the length of the messages, without the answer's reserve.
        r"maximum context length (?:is|of) (?P<limit>\d+) tokens.*? (?:requested|resulted in) (?:about )?\d+ tokens?"
        r" \((?P<read>\d+) (?:in the messages|of text input)",
        r"maximum context length (?:is|of) (?P<limit>\d+) tokens.*? (?:requested|resulted in) (?:about )?(?P<read>\d+)"
        r" tokens?\b(?! \()",
        # OpenAI since GPT-5.
        r"configured limit of (?P<limit>\d+) tokens.*?resulted in (?P<read>\d+) tokens",
        # vLLM: "at least" is not the exact length, so it is ignored.
        r"maximum context length is (?P<limit>\d+) tokens.*?prompt contains (?:at least \d+|(?P<read>\d+)) input",
        r"you passed (?P<read>\d+) input tokens.*?context length is only (?P<limit>\d+)",
        r"max_model_len[= ]*\(?(?P<limit>\d+)",
        # llama.cpp.
        r"request \((?P<read>\d+) tokens\) exceeds the available context size \((?P<limit>\d+) tokens",
        # LM Studio.
        r"the input has (?P<read>\d+) tokens.*?only supports (?P<limit>\d+)",
        r"context length of only (?P<limit>\d+)",
        # Mistral.
        r"prompt contains (?P<read>\d+) tokens.*?too large for model with (?P<limit>\d+)",
        # xAI.
        r"maximum prompt length is (?P<limit>\d+) but the request contains (?P<read>\d+)",
        # Gemini.
        r"input token count \(?(?P<read>\d+)\)? exceeds the maximum number of tokens allowed \(?(?P<limit>\d+)",
        # Moonshot.
        r"exceeded model token limit: (?P<limit>\d+)(?: \(requested: (?P<read>\d+)\))?",
        # Together.
        r"the input \((?P<read>\d+) tokens\) is longer than the model's context length \((?P<limit>\d+)",
        # TGI.
        r"`inputs` tokens \+ `max_new_tokens` must be <= (?P<limit>\d+)\. given: (?P<read>\d+)",
        r"`inputs` must have less than (?P<limit>\d+) tokens\. given: (?P<read>\d+)",
        # Qwen.
        r"input length should be \[\d+, (?P<limit>\d+)\]",
        # Anthropic, through gateways.
        r"prompt is too long: (?P<read>\d+) tokens > (?P<limit>\d+)",
        # A request that exceeds the whole quota of a minute: OpenAI (429), Groq (413). Waiting does not help.
        r"request too large.*?limit (?P<limit>\d+), requested (?P<read>\d+)",
        # Other wordings, without useful numbers.
        r"context[ _](?:length|window|size)|(?:prompt|input) (?:is )?too long|prompt is longer|reduce the length"
        r"|maximum prompt length|input tokens exceed|\"?middle-out\"? transform",
    )
)
"""The first match counts. Groups: limit, the window; read, the request's length."""

_RATE = re.compile(r"rate limit|too many requests|(?:tokens|requests) per (?:min|day)", re.IGNORECASE)
_TOO_LARGE = re.compile(r"request too large", re.IGNORECASE)
_FULL = re.compile(r"context size has been exceeded", re.IGNORECASE)
_OTHER = re.compile(r"could not finish the message because|string_above_max_length", re.IGNORECASE)

_CAPS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"max_\w*tokens\W.{0,60}(?:too large|at most).{0,80}at most (\d+)",  # OpenAI, chat completions
        r"max_\w*tokens\W.{0,80}expected a value <= (\d+)",  # OpenAI, responses
        r"range of max_\w*tokens (?:is|should be) \[\d+, (\d+)\]",  # DeepSeek, Qwen
        r"max_\w*tokens\W{1,3}must be less than or equal to \W?(\d+)",  # Groq
        r"max_tokens: \d+ > (\d+)",  # Anthropic, through gateways
    )
)


def overflow_of(refusal: Refusal) -> ContextOverflow | None:
    """The overflow that a refusal reports; None: it is about something else."""
    if not _is_overflow(refusal):
        return None
    limit = refusal.numbers.get("n_ctx")
    read = refusal.numbers.get("n_prompt_tokens")
    found = None if limit is not None else next((m for p in _WORDINGS if (m := p.search(refusal.words))), None)
    if found is not None:
        numbers = {name: int(text) for name, text in found.groupdict().items() if text}
        limit, read = numbers.get("limit"), numbers.get("read")
    if limit is not None and read is not None and read <= limit:
        read = None
    is_lasting = refusal.status != 413 and not refusal.says(_RATE)
    return ContextOverflow(limit_tokens=limit, read_tokens=read, is_lasting=is_lasting)


def output_cap(refusal: Refusal) -> int | None:
    """The model's output limit, if the request was refused for exceeding it."""
    found = next((match for pattern in _CAPS if (match := pattern.search(refusal.words))), None)
    return None if found is None else int(found[1])


def _is_overflow(refusal: Refusal) -> bool:
    if refusal.is_any(_CODES):
        return True
    if refusal.says(_RATE) or refusal.status == 429:
        return refusal.status in {413, 429} and refusal.says(_TOO_LARGE)
    if refusal.status == 413:
        return True  # the body is too large, and most of it is the conversation
    if refusal.says(_OTHER) or output_cap(refusal) is not None:
        return False
    # llama.cpp also answers 500, with exactly the wording of _FULL, when the window gets full during the answer.
    is_refused = refusal.status in {200, 400, 422} or refusal.says(_FULL)
    return is_refused and any(refusal.says(pattern) for pattern in _WORDINGS)
