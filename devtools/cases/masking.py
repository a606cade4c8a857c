"""Hides what is private in a case, by rules: the same value always becomes the same mask, so references still match.

A rule finds values by a pattern in texts, or by a field's name in JSON. The built-in ones are for secrets, tokens, mail
addresses and phone numbers; a file has a user's own, which come first:

    - name: order
      pattern: '\\bA-\\d{4}\\b'
      mask: 'A-9{n:03}'      # n: which value it is, from 1; the mask still fits the tool's arguments
    - name: customer
      field: customer_name   # its whole value

Invariant: what one rule has hidden no other looks at. Users are hidden always (`user-1`), wherever their ids stand.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from devtools.lines import first_fault

_LEAST_USER_CHARS = 3
"""A shorter id stands in too many words; where it is somebody's name by its place, it is hidden too."""


class BadRules(Exception):
    """The message says what is wrong with a file of rules."""


class Rule(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    pattern: str | None = None
    field: str | None = None
    mask: str | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.pattern is None) == (self.field is None):
            raise ValueError("a rule has a pattern or a field")
        try:
            re.compile(self.pattern or "")
            self.masked(1)
        except (re.error, KeyError, IndexError, ValueError) as error:
            raise ValueError(f"{type(error).__name__}: {error}") from error
        return self

    def masked(self, number: int) -> str:
        return (self.mask or f"{self.name}-{{n}}").format(n=number)


_PRIVATE_FIELDS = r"(?i:password|passwd|secret|client_secret|api_?key|access_?key|authorization|credential|token)s?"
BUILT_IN = (
    Rule(name="secret", pattern=r"-----BEGIN [A-Z ]+-----[\s\S]+?-----END [A-Z ]+-----"),
    Rule(name="token", pattern=r"\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*"),
    Rule(name="secret", pattern=r"(?<=://)[^\s:/@]+:[^\s/@]+(?=@)"),
    Rule(name="secret", pattern=r"(?i)\b(?:AccountKey|SharedAccessKey|sig|pwd)=[\w+/%=-]{8,}", mask="secret={n}"),
    Rule(name="token", pattern=r"(?i)(?<=bearer )[\w.~+/-]{8,}=*"),
    Rule(name="token", pattern=r"\b(?:sk|pk|rk|ghp|gho|ghs|github_pat|glpat|xox[abprs])[-_][\w-]{10,}"),
    Rule(name="token", pattern=r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"),
    Rule(
        name="secret",
        pattern=rf"(?<![\w-]){_PRIVATE_FIELDS}[\"']?\s*[:=]\s*[\"']?[^\s\"',;}}]{{6,}}",
        mask="secret={n}",
    ),
    Rule(name="secret", field=_PRIVATE_FIELDS),
    Rule(name="mail", pattern=r"\b[\w.%+-]+@[\w-]+(?:\.[\w-]+)+\b", mask="mail-{n}@example.com"),
    Rule(
        name="phone",
        pattern=r"(?<![\w.:/-])(?:\+\d{1,3}[ ./-]?|\(0?\d{1,4}\)[ ./-]?|0(?=\d))\(?\d{1,4}\)?(?:[ ./-]?\d{2,4}){2,4}"
        r"(?![\w:-])",
        mask="+1 555 0{n:05}",
    ),
)


def rules_of(path: Path | None) -> list[Rule]:
    """A user's own rules, then the built-in ones. Raises BadRules."""
    if path is None:
        return list(BUILT_IN)
    try:
        found = YAML(typ="safe", pure=True).load(path.read_text("utf-8"))
        return [*TypeAdapter(list[Rule]).validate_python(found or []), *BUILT_IN]
    except OSError as error:
        raise BadRules(f"{path}: {error.strerror}") from error
    except YAMLError as error:
        raise BadRules(f"{path} is no YAML: {' '.join(str(error).split())}") from error
    except ValidationError as error:
        raise BadRules(f"{path}: rule {first_fault(error)}") from error


@dataclass
class Masking:
    """The masks of one case."""

    rules: Sequence[Rule] = BUILT_IN
    _masks: dict[tuple[str, str], str] = field(default_factory=dict)
    _numbers: Counter[str] = field(default_factory=Counter)
    _users: dict[str, str] = field(default_factory=dict)

    def user(self, user_id: str) -> str:
        """The name that somebody has in the case; by it they are hidden in texts, too."""
        return self._users.setdefault(user_id, f"user-{len(self._users) + 1}")

    def users(self, user_ids: Iterable[str | None]) -> None:
        """Know them before the first text."""
        for user_id in user_ids:
            if user_id is not None:
                self.user(user_id)

    @property
    def counts(self) -> dict[str, int]:
        """How many values each rule has hidden."""
        return dict(sorted(self._numbers.items()))

    def text(self, text: str) -> str:
        """With every value masked."""
        # Pieces alternate: not looked at yet, and a mask.
        pieces = [text]
        for pattern, mask in self._patterns():
            pieces = [
                part
                for index, piece in enumerate(pieces)
                for part in ([piece] if index % 2 else _split(pattern, mask, piece))
            ]
        return "".join(pieces)

    def value(self, value: Any, key: str = "") -> Any:
        """JSON with every value masked. key: of the field that it is in."""
        if isinstance(value, dict):
            return {self.text(name): self.value(inner, name) for name, inner in value.items()}
        if isinstance(value, list):
            return [self.value(inner, key) for inner in value]
        rule = next((rule for rule in self.rules if rule.field and re.fullmatch(rule.field, key)), None)
        if rule is not None and isinstance(value, str | int | float) and not isinstance(value, bool) and value != "":
            return self._mask(rule, str(value))
        return self.text(value) if isinstance(value, str) else value

    def _patterns(self) -> Iterable[tuple[re.Pattern[str], Any]]:
        known = sorted((each for each in self._users if len(each) >= _LEAST_USER_CHARS), key=len, reverse=True)
        if known:
            ids = re.compile(rf"(?<![\w@.-])(?:{'|'.join(map(re.escape, known))})(?![\w@-])")
            yield ids, lambda found: self._users[found]
        for rule in self.rules:
            if rule.pattern is not None:
                yield re.compile(rule.pattern), lambda found, rule=rule: self._mask(rule, found)

    def _mask(self, rule: Rule, found: str) -> str:
        kind = (rule.name, found.lower() if rule.name == "mail" else found)
        if kind not in self._masks:
            self._numbers[rule.name] += 1
            self._masks[kind] = rule.masked(self._numbers[rule.name])
        return self._masks[kind]


def _split(pattern: re.Pattern[str], mask: Any, text: str) -> list[str]:
    """Text and masks in turn; it begins and ends with text."""
    pieces, end = [], 0
    for found in pattern.finditer(text):
        if not found[0]:
            continue
        pieces += [text[end : found.start()], mask(found[0])]
        end = found.end()
    return [*pieces, text[end:]]
