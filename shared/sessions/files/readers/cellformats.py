"""How Excel shows a number: as a date, a time, a duration, a percentage or a plain number.

A workbook stores days since its epoch and fractions of a day; only the cell's number format says what they are.
Source: ECMA-376 part 1, 18.8.30 (number formats) and 18.17.4 (dates).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from enum import StrEnum

_LAST_DAY = 2_958_465  # 9999-12-31
_MS_PER_DAY = 86_400_000
_FIRST_SURE_DATE = 367  # a lower number in a format of times alone is an overflown time, as Excel shows it

_SKIPPED = re.compile(r'"[^"]*"?|\\.|_.|\*.|\[\$[^\]]*\]|\[(?![hms]+\])[^\]]*\]', re.IGNORECASE)  # literals, colours
_ELAPSED = re.compile(r"\[(h+|m+|s+)\]", re.IGNORECASE)
_AM_PM = re.compile(r"am/pm|a/p|上午/下午", re.IGNORECASE)
_MINUTES = re.compile(r"h+[^a-z]*m{1,2}(?!m)|(?<!m)m{1,2}[^a-z]*s", re.IGNORECASE)
_FRACTION = re.compile(r"s[.,](0{1,3})", re.IGNORECASE)


class Shown(StrEnum):
    NUMBER = "number"
    PERCENT = "percent"
    DATE = "date"  # with a time where there is one
    TIME = "time"
    DURATION = "duration"
    EITHER = "either"  # a date or a time: the built-in format means one or the other by the program's language


@dataclass(frozen=True, slots=True)
class CellFormat:
    """shown_seconds: the format has seconds. digits: of a second's fraction. is_short: minutes and seconds alone."""

    shown: Shown = Shown.NUMBER
    shown_seconds: bool = False
    digits: int = 0
    is_short: bool = False


PLAIN = CellFormat()
_BUILT_IN: dict[int, CellFormat] = {
    **dict.fromkeys((9, 10, 67, 68), CellFormat(Shown.PERCENT)),
    **dict.fromkeys((14, 15, 16, 17, 22), CellFormat(Shown.DATE)),
    **dict.fromkeys((18, 20, 75), CellFormat(Shown.TIME)),
    **dict.fromkeys((19, 21, 76), CellFormat(Shown.TIME, shown_seconds=True)),
    **dict.fromkeys((45, 78), CellFormat(Shown.TIME, shown_seconds=True, is_short=True)),
    **dict.fromkeys((46, 79), CellFormat(Shown.DURATION, shown_seconds=True)),
    **dict.fromkeys((47, 80), CellFormat(Shown.TIME, shown_seconds=True, digits=1, is_short=True)),
    # Chinese, Japanese and Korean, then Thai. Some numbers are a date in one language and a time in another.
    **dict.fromkeys((27, 28, 29, 30, 31, 36, 50, 51, 52, 53, 54, 57, 58), CellFormat(Shown.DATE)),
    **dict.fromkeys((32, 33, 34, 35, 55, 56), CellFormat(Shown.EITHER)),
    **dict.fromkeys((71, 72, 73, 74, 77, 81), CellFormat(Shown.DATE)),
}  # fmt: skip


def built_in(number: int) -> CellFormat:
    return _BUILT_IN.get(number, PLAIN)


def format_of(code: str) -> CellFormat:
    """The format of a code such as `[h]:mm` or `yyyy"年"m"月"`; its first section is that of positive numbers."""
    if "[$-F800]" in code.upper():
        return CellFormat(Shown.DATE)
    if "[$-F400]" in code.upper():
        return CellFormat(Shown.TIME, shown_seconds=True)
    bare = _SKIPPED.sub("", code[:500]).split(";")[0]
    if "general" in bare.lower():
        return PLAIN
    fraction = _FRACTION.search(bare)
    digits = len(fraction[1]) if fraction else 0
    lowered = _AM_PM.sub("", bare).lower()
    has_seconds = "s" in lowered
    if _ELAPSED.search(bare):
        return CellFormat(Shown.DURATION, has_seconds, digits, is_short="h" not in lowered)
    minutes = _MINUTES.search(lowered) is not None
    months = lowered
    for match in _MINUTES.findall(lowered):
        months = months.replace(match, "", 1)
    is_date = bool(set(months) & set("yd")) or "m" in months or ("e" in months and "0" not in months) or "bb" in months
    is_date = is_date or "aaa" in months
    if is_date and not set(lowered) & set("#?"):
        return CellFormat(Shown.DATE, has_seconds, digits)
    if "h" in lowered or minutes or (has_seconds and not set(lowered) & set("#?")):
        return CellFormat(Shown.TIME, has_seconds, digits, is_short="h" not in lowered)
    return CellFormat(Shown.PERCENT) if "%" in bare else PLAIN


def show(raw: str, how: CellFormat, *, is_1904: bool) -> tuple[str, str]:
    """A stored number as text, and its kind (`date`, `time`, `duration`, `integer`, `number`, `text`)."""
    try:
        value = float(raw)
    except ValueError:
        return raw, "text"
    if value != value or value in (float("inf"), float("-inf")):
        return raw, "text"
    shown = how.shown
    if shown is Shown.EITHER:
        shown = Shown.TIME if 0 <= value < 1 else Shown.DATE
    if shown in (Shown.NUMBER, Shown.PERCENT):
        return _number(raw, value, is_percent=shown is Shown.PERCENT)
    if abs(value) >= _LAST_DAY + 1 or (value < 0 and not is_1904 and shown is not Shown.DURATION):
        return _number(raw, value, is_percent=False)  # Excel shows only # signs
    unit = 10 ** (3 - how.digits) if how.digits else 1000
    total_ms = round(abs(value) * _MS_PER_DAY / unit) * unit
    sign = "-" if value < 0 else ""
    if shown is Shown.DURATION:
        if how.is_short and how.shown_seconds:  # [m]:ss counts minutes beyond the hour
            minutes, within = divmod(total_ms, 60_000)
            return f"{sign}{minutes:02}:{_clock(within, how)[3:]}", "duration"
        return sign + _clock(total_ms, how), "duration"
    if shown is Shown.TIME and value < _FIRST_SURE_DATE:
        return sign + _clock(total_ms % _MS_PER_DAY, how), "time"
    day, within = divmod(total_ms if value >= 0 else -total_ms, _MS_PER_DAY)
    shown_day = _day(day, is_1904=is_1904)
    if shown_day is None:
        return _number(raw, value, is_percent=False)
    if within:
        return f"{shown_day} {_clock(within, CellFormat(digits=how.digits, shown_seconds=how.shown_seconds))}", "date"
    return shown_day, "date"


def plain_number(raw: str) -> str:
    """A number as it was typed: Excel keeps 15 digits, and the file has the nearest binary fraction's 17."""
    try:
        return _number(raw, float(raw), is_percent=False)[0]
    except ValueError:
        return raw


def _number(raw: str, value: float, *, is_percent: bool) -> tuple[str, str]:
    digits = raw.strip().lstrip("+-")
    if not is_percent and digits.isascii() and digits.isdigit() and len(digits) <= 18:
        return raw.strip(), "integer"
    try:
        typed = Decimal(f"{value:.15g}")
    except (ValueError, ArithmeticError):
        return raw, "text"
    if is_percent:
        typed = Decimal(f"{typed * 100:.15g}")
    if typed and not -10 <= typed.adjusted() <= 20:
        text = f"{float(typed):.15g}"
        return text + "%" * is_percent, "number"
    text = f"{typed:f}"
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    text = "0" if text in ("-0", "") else text
    if is_percent:
        return text + "%", "number"
    return text, "number" if "." in text or len(text) > 18 else "integer"


def _day(number: int, *, is_1904: bool) -> str | None:
    """A day by its number. In the system of 1900, Excel has a 29th of February 1900 and, before the 1st, a day 0."""
    if is_1904:
        try:
            return (date(1904, 1, 1) + timedelta(days=number)).isoformat()
        except OverflowError:
            return None
    if number in (0, 60):
        return "1900-01-00" if number == 0 else "1900-02-29"
    try:
        return (date(1899, 12, 31 if number < 60 else 30) + timedelta(days=number)).isoformat()
    except OverflowError:
        return None


def _clock(total_ms: int, how: CellFormat) -> str:
    """hh:mm or hh:mm:ss. Seconds that the format leaves out are written where they are not zero."""
    seconds, ms = divmod(total_ms, 1000)
    minutes, second = divmod(seconds, 60)
    hour, minute = divmod(minutes, 60)
    fraction = f".{ms:03}"[: how.digits + 1] if how.digits else ""
    if how.is_short and hour == 0:
        return f"{minute:02}:{second:02}{fraction}"
    if how.shown_seconds or second or fraction:
        return f"{hour:02}:{minute:02}:{second:02}{fraction}"
    return f"{hour:02}:{minute:02}"
