"""Texts and faults in one line, as the commands tell them."""

from __future__ import annotations

from pydantic import ValidationError


def one_line(text: str, most: int) -> str:
    """Without its breaks, and cut after so many characters."""
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[:most]}..."


def first_fault(error: ValidationError) -> str:
    """`place: what is wrong there`, without the value."""
    first = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"
