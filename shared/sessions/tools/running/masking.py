"""Keeping known values out of text: outputs and errors of tools, log lines, and what is printed."""

from __future__ import annotations

import base64
import json
import logging
import sys
from collections.abc import Mapping
from typing import Any, TextIO
from urllib.parse import quote, quote_plus

from pydantic import JsonValue

_MIN_PART = 6
"""Of the beginning of a value at the end of a text that was cut."""


class Mask:
    """Replaces each value by `[secret NAME]`, also where it is encoded in the usual ways: JSON, URL, base64."""

    def __init__(self, values: Mapping[str, str]) -> None:
        """values: by name."""
        forms: dict[str, str] = {}
        for name, value in values.items():
            forms |= dict.fromkeys(_forms(value), f"[secret {name}]")
        # Longest first: one value may contain another.
        self._forms = dict(sorted(forms.items(), key=lambda form: -len(form[0])))

    def text(self, text: str) -> str:
        for form, shown in self._forms.items():
            if form in text:
                text = text.replace(form, shown)
        return text

    def cut_text(self, text: str, at: int) -> str:
        """The same for a text that was cut after `at` characters and continued with a note: a value may be cut, too."""
        head, note = text[:at], text[at:]
        for form, shown in self._forms.items():
            for length in range(min(len(form) - 1, len(head)), _MIN_PART - 1, -1):
                if head.endswith(form[:length]):
                    return self.text(head[:-length]) + shown + note
        return self.text(head) + note

    def json(self, value: JsonValue) -> JsonValue:
        if not self._forms:
            return value
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, list):
            return [self.json(item) for item in value]
        if isinstance(value, dict):
            return {self.text(key): self.json(item) for key, item in value.items()}
        return value

    def __bool__(self) -> bool:
        return bool(self._forms)


NO_MASK = Mask({})


def _forms(value: str) -> set[str]:
    encoded = value.encode("utf-8", "replace")
    return {
        value,
        quote(value, safe="", errors="replace"),
        quote(value, errors="replace"),
        quote_plus(value, errors="replace"),
        json.dumps(value)[1:-1],
        json.dumps(value, ensure_ascii=False)[1:-1],
        base64.b64encode(encoded).decode().rstrip("="),
        base64.urlsafe_b64encode(encoded).decode().rstrip("="),
    }


def mask_log(mask: Mask) -> None:
    """Mask all log lines of the process from now on, and what is printed to stdout and stderr."""
    if not mask:
        return
    make = logging.getLogRecordFactory()

    def make_record(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = make(*args, **kwargs)
        try:
            said = record.getMessage()
        except Exception:
            return record  # a wrong format; whoever handles the record says so
        shown = mask.text(said)
        if shown != said:
            record.msg, record.args = shown, None
        if record.exc_info and record.exc_info[0] is not None:
            told = logging.Formatter().formatException(record.exc_info)
            masked = mask.text(told)
            if masked != told:
                # Whatever formats the record takes the text, and no handler finds the values in the exception.
                record.exc_text, record.exc_info = masked, None
        return record

    make_record.__dict__.update(make.__dict__)  # what others have marked on theirs
    logging.setLogRecordFactory(make_record)
    sys.stdout, sys.stderr = _MaskedStream(sys.stdout, mask), _MaskedStream(sys.stderr, mask)


class _MaskedStream:
    """A text stream whose writes are masked."""

    def __init__(self, stream: TextIO, mask: Mask) -> None:
        self._stream = stream
        self._mask = mask

    def write(self, text: str) -> int:
        self._stream.write(self._mask.text(text))
        return len(text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
