"""Optional parameters: a parameter that a server refuses is left out of all later requests to that model.

If a model does not support `temperature`, or a server does not know `stream_options`, it answers 400 and names the
parameter. The request is sent again at once without it. So an unsupported parameter costs one refused request per
process.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable

from shared.adapters.models.refusals.refusal import Refusal
from shared.sessions.llm.protocol import ModelRequest

log = logging.getLogger(__name__)

_REFUSED = frozenset({400, 404, 415, 422})
_VALIDATION = re.compile(r"validation errors?|input should be|extra_forbidden", re.IGNORECASE)
"""pydantic's validation errors, which llama-cpp-python reports with status 500."""
_SIGNS = re.compile(
    r"unsupported|not (?:be )?supported|does(?:n't| not) (?:support|allow|accept)|unrecogni[sz]ed|unknown|unexpected"
    r"|not (?:permitted|allowed|implemented|compatible)|extra (?:inputs|fields)|extra_forbidden|must be verified"
    r"|invalid|is not (?:available|valid|enabled)|is unavailable|no longer|deprecated|cannot be|can't be"
    r"|only the default|input should be",
    re.IGNORECASE,
)
_VALUES = re.compile(r"supported values|supported value is|valid values|input should be", re.IGNORECASE)
_RANGE = re.compile(r"(?:above|below) (?:the )?(?:maximum|minimum)|expected a value|out of range", re.IGNORECASE)
_EFFORTS = frozenset({"reasoning_effort", "reasoning.effort"})
_INDEX = re.compile(r"\[(\d+)\]")

_WORDS = {
    "temperature": r"temperature",
    "store": r"['\"`]store['\"`]",
    "include": r"['\"`]include['\"`]|reasoning\.encrypted_content|encrypted content",
    "phase": r"['\"`](?:input\S*\.)?phase['\"`]",
    "reasoning": r"['\"`](?:messages\S*\.)?reasoning['\"`]",
    "reasoning.summary": r"reasoning[ ._]summar(?:y|ies)",
    "reasoning.effort": r"reasoning[ ._]?effort",
    "reasoning_effort": r"reasoning[ ._]?effort",
    "text.format": r"text\.format|json_schema|structured outputs?|response[ _]format",
    "response_format": r"response[ _]format|json_schema|structured outputs?|guided decoding",
}
"""How error messages mention a parameter, if not by its exact name, or if its name is a common word."""


class LeftOut:
    """Refused parameters by API and model. Bound to one event loop."""

    def __init__(self) -> None:
        self._names: dict[tuple[str, str], frozenset[str]] = {}

    def of(self, api: str, model: str) -> frozenset[str]:
        return self._names.get((api, model), frozenset())

    def add(self, api: str, model: str, name: str, refusal: Refusal) -> None:
        self._add(api, model, name, f"its server refuses it: {refusal}")

    def ignored(self, api: str, model: str, name: str) -> None:
        """Leave out a parameter that the server accepts but ignores; it may know another name for it."""
        self._add(api, model, name, "its server ignores it")

    def _add(self, api: str, model: str, name: str, why: str) -> None:
        known = self.of(api, model)
        if name not in known:  # concurrent requests may learn the same
            self._names[api, model] = known | {name}
            log.warning("model %s: %s is left out from now on, because %s", model, name, why)


def takes_effort(request: ModelRequest, name: str, left_out: frozenset[str]) -> bool:
    """Whether to send the effort. A server may support the parameter but refuse some of its values."""
    effort = request.reasoning_effort
    return effort is not None and name not in left_out and f"{name}={effort}" not in left_out


def refused_parameter(refusal: Refusal, sent: Iterable[str], *, effort: str | None = None) -> str | None:
    """The optional parameter that is refused; None: the refusal is about something else.

    sent: dotted names of the parameters sent. effort: the value sent; if only this value is refused, the result
    contains it, as in `reasoning_effort=minimal`.
    """
    is_refused = refusal.status in _REFUSED or (refusal.status == 500 and refusal.says(_VALIDATION))
    if not is_refused or refusal.says(_RANGE):
        return None
    # Longest names first, so that max_completion_tokens is not mistaken for max_tokens.
    names = sorted(sent, key=lambda name: (-len(name), name))
    named = [_INDEX.sub(r".\1", place.removeprefix("body.")) for place in (refusal.param, *refusal.places) if place]
    name = next((name for name in names if any(_is_at(place, name) for place in named)), None)
    if name is None and not named and refusal.says(_SIGNS):
        # Only if the error names no other place; with one, a mention of these words is about something else.
        name = next((name for name in names if refusal.says(_mention(name))), None)
    if name in _EFFORTS and refusal.says(_VALUES):
        return f"{name}={effort}"
    return name


def _is_at(place: str, name: str) -> bool:
    last = name.rpartition(".")[2]
    return place in {name, last} or place.endswith(f".{last}") or place.startswith(f"{name}.")


def _mention(name: str) -> re.Pattern[str]:
    return re.compile(_WORDS.get(name, rf"(?<![\w.]){re.escape(name)}(?!\w)"), re.IGNORECASE)
