"""Parses a model server's error, in any of the servers' shapes. `meaning.py` interprets it.

Invariant: the provider's text goes only to the log, on one line, bounded and without secrets.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

MAX_BODY_BYTES = 256 * 1024
"""Most bytes read of an error's body."""
MAX_WORDS = 4_000
"""Most characters kept of its text; gateways put their own text before the server's."""
MAX_LOGGED = 500

_MAX_DEPTH = 6
_MAX_ITEMS = 20
_TEXTS = frozenset({"message", "msg", "error", "detail", "error_description", "raw", "title"})
_NUMBERS = frozenset({"n_ctx", "n_prompt_tokens"})

_SECRETS = re.compile(
    r"\bBearer\s+\S+"
    r"|\b(?:sk|pk|gsk|key|xai|hf|nvapi|csk|fw|pplx|r8)[-_][\w*.-]{6,}"  # providers' prefixes
    r"|\bAIza[\w-]{10,}"  # Google
    r"|\beyJ[\w-]{10,}\.[\w.-]+"  # JSON web tokens
    r"|\b[0-9a-fA-F]{32,}\b"  # Azure's older keys
    r"|\b[A-Za-z0-9_-]{40,}\b={0,2}",  # Azure's newer keys, and other long tokens
    re.ASCII,
)
_WAIT = re.compile(
    r"(?:try again in|retry (?:after|in)) (?:(?P<minutes>\d+)m)?(?P<number>\d+(?:\.\d+)?) ?(?P<unit>ms|s)"
)
_DELAY = re.compile(r"(\d+(?:\.\d+)?)s")


@dataclass(eq=False, repr=False)
class Refusal(Exception):
    """An error response, or an error inside a stream (then status 200). Its `str` is safe for a log."""

    status: int
    codes: tuple[str, ...] = ()
    """Codes and types, outermost first: gateways wrap the server's error in their own."""
    param: str = ""
    words: str = ""
    """The server's text, on one line and bounded, for matching only; never shown to users."""
    places: tuple[str, ...] = ()
    """Dotted paths into the request, as named by servers that validate it."""
    numbers: Mapping[str, int] = field(default_factory=dict)
    retry_after_s: float | None = None

    def __str__(self) -> str:
        about = " ".join(part for part in (str(self.status), *self.codes[:2], self.param) if part)
        # Cut only after secrets are removed: half a secret would not be recognised.
        text = _SECRETS.sub("[secret]", f"{about}: {self.words}")
        return text if len(text) <= MAX_LOGGED else f"{text[: MAX_LOGGED - 1]}…"

    def says(self, pattern: re.Pattern[str]) -> bool:
        return pattern.search(self.words) is not None

    def is_any(self, codes: frozenset[str]) -> bool:
        return not codes.isdisjoint(self.codes)

    def without(self, secrets: tuple[str, ...]) -> Refusal:
        """The same refusal with these secrets removed everywhere."""
        return replace(
            self,
            codes=tuple(_cut(code, secrets) for code in self.codes),
            param=_cut(self.param, secrets),
            words=_cut(self.words, secrets),
        )


def read_refusal(status: int, body: bytes, headers: Mapping[str, str]) -> Refusal:
    """Parse an HTTP error response; of a long body, the beginning is enough."""
    try:
        value: Any = orjson.loads(body[:MAX_BODY_BYTES])
    except orjson.JSONDecodeError:
        value = body[:MAX_BODY_BYTES].decode("utf-8", "replace")
    return refusal_of(value, status=status, retry_after_s=_retry_after(headers))


def refusal_of(value: Any, *, status: int = 200, retry_after_s: float | None = None) -> Refusal:
    """Parse an error from JSON in any of the servers' shapes, or from text."""
    texts: list[str] = [value] if isinstance(value, str) else []
    codes: list[str] = []
    params: list[str] = []
    places: list[str] = []
    numbers: dict[str, int] = {}
    for key, item in _leaves(value, 0):
        if isinstance(item, bool) or item is None:
            continue
        if key == "loc" and isinstance(item, list):
            places.append(".".join(str(part) for part in item))
        elif key in _NUMBERS and isinstance(item, int):
            numbers[key] = item
        elif key in _TEXTS and isinstance(item, str):
            texts.append(item)
        elif key in {"code", "type", "status", "error_type"} and isinstance(item, (str, int)):
            codes.append(str(item))
        elif key == "param" and isinstance(item, str):
            params.append(item)
        elif key == "retryDelay" and isinstance(item, str) and (delay := _DELAY.fullmatch(item)):
            retry_after_s = retry_after_s or float(delay.group(1))
    words = _line("; ".join(dict.fromkeys(text for text in texts if text)), MAX_WORDS)
    return Refusal(
        status=status,
        # A code equal to the HTTP status adds nothing.
        codes=tuple(dict.fromkeys(_line(code, 100) for code in codes if code and code != str(status)))[:_MAX_ITEMS],
        param=_line(params[0], 200) if params else "",
        words=words,
        places=tuple(places[:_MAX_ITEMS]),
        numbers=numbers,
        retry_after_s=_wait_in(words) if retry_after_s is None else retry_after_s,
    )


def error_in(event: Any) -> Refusal | None:
    """The error in a stream event, in any shape; None: the event is something else, such as a ping.

    Raises TypeError for a value that is not an event.
    """
    if isinstance(event, list):
        return refusal_of(event)
    if not isinstance(event, dict):
        raise TypeError("not an event")
    if event.get("error") or event.get("detail") or "error" in (event.get("type"), event.get("object")):
        return refusal_of(event)
    return None


def _leaves(value: Any, depth: int) -> Iterator[tuple[str, Any]]:
    """All (key, value) pairs inside, outermost first; `loc` lists stay whole."""
    if depth > _MAX_DEPTH:
        return
    if isinstance(value, dict):
        yield from value.items()
        for key, item in value.items():
            if isinstance(item, dict) or (isinstance(item, list) and key != "loc"):
                yield from _leaves(item, depth + 1)
            elif isinstance(item, str) and item.startswith(("{", "[{")):
                # A gateway may quote another server's response as text.
                yield from _leaves(_quoted(item), depth + 1)
    elif isinstance(value, list):
        for item in value[:_MAX_ITEMS]:
            yield from _leaves(item, depth + 1)


def _quoted(text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return None


def _cut(text: str, secrets: tuple[str, ...]) -> str:
    for secret in secrets:
        if secret:
            text = text.replace(secret, "[secret]")
    return text


def _line(text: str, limit: int) -> str:
    return " ".join("".join(char if char.isprintable() else " " for char in text[: 2 * limit]).split())[:limit]


def _wait_in(words: str) -> float | None:
    """Seconds to wait, from the text, if no header gives them: "Please try again in 1m2.5s"."""
    found = _WAIT.search(words)
    if found is None:
        return None
    seconds = float(found["number"]) / (1000 if found["unit"] == "ms" else 1)
    return seconds + 60 * int(found["minutes"] or 0)


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds from `retry-after-ms` or `Retry-After`; None for a date, for which our own back-off applies."""
    for name, scale in (("retry-after-ms", 1000), ("retry-after", 1)):
        try:
            seconds = float(headers[name]) / scale
        except (KeyError, ValueError):
            continue
        if math.isfinite(seconds):
            return max(0.0, seconds)
    return None
