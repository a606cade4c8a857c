"""The format of a case: one conversation, as a YAML file that people read, edit and keep beside their agents.

YAML rather than JSON: answers and instructions are texts of many lines, which stand there as they are; and whoever
keeps a case adds comments and expectations by hand.

Invariant: a file of another format version, or with a key that is not known, is refused by name.
"""

from __future__ import annotations

from datetime import datetime
from io import StringIO
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.scalarstring import LiteralScalarString

from devtools.lines import first_fault

FORMAT: Literal[1] = 1

type Json = dict[str, Any]


class Unusable(Exception):
    """The message says which file, and what is wrong with it."""


class Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Definition(Part):
    """What a model was offered of one tool. Digests: the first 16 digits of SHA-256 in hexadecimal."""

    description: str
    parameters: str
    chars: int
    """Length of the whole as JSON."""


class Agent(Part):
    """content: as in `PUT /agents/{id}`. mcp_pins: the tools of MCP servers, as that version pins them."""

    id: str
    version: int
    content: Json
    mcp_pins: list[Json] = []


class Vote(Part):
    """roles: those by which the vote counted."""

    by: str
    roles: list[str]
    at: datetime
    decision: str
    arguments: Json | None = None
    comment: str | None = None
    for_session: bool = False


class Approval(Part):
    """requires: `2 of finance`, one line for each requirement. status: of `ApprovalStatus`."""

    requires: list[str]
    reason: str | None = None
    status: str
    votes: list[Vote] = []


class Result(Part):
    """How a call ended. content: what the model reads; data: the same for programs. at: of one that came later, when.

    code: an error's. A call that did not run has no content and no error of its own.
    """

    status: str
    content: str | None = None
    data: Any = None
    error: str | None = None
    code: str | None = None
    at: datetime | None = None


class Call(Part):
    """id: within the case."""

    id: str
    name: str
    arguments: Json
    approval: Approval | None = None
    ran_with: Json | None = None
    """Arguments that people approved instead."""
    result: Result


class Step(Part):
    """One answer of the model. error: why there is none; text may be its beginning then."""

    text: str = ""
    reasoning: str | None = None
    output: Any = None
    finish_reason: str | None = None
    calls: list[Call] = []
    error: str | None = None
    """`CODE: detail`."""


class Tokens(Part):
    input: int = 0
    output: int = 0
    cached: int = 0
    reasoning: int = 0
    cost_usd: float | None = None


class Ends(Part):
    """status: of `TurnStatus`. error: `CODE: detail`."""

    status: str
    error: str | None = None
    used: Tokens = Tokens()


class Text(Part):
    """How the last answer of a turn is compared: one of the two."""

    pattern: str | None = None
    """A regular expression that is found somewhere in it."""
    judge: str | None = None
    """What it must say; a model decides whether it does."""


class Expected(Part):
    """What is compared in another way than exactly."""

    text: Literal["exact", "any"] | Text = "exact"
    cost_within: float = 0.1
    """The part of the cost by which it may differ."""


class Turn(Part):
    """output_schema, approval_mode: the message's own, where it had any."""

    at: datetime
    by: str
    message: str
    output_schema: Json | None = None
    approval_mode: str | None = None
    expect: Expected = Expected()
    steps: list[Step] = []
    ends: Ends


class Case(Part):
    """config: the session's, where it is not the default. tools: what the model was offered, by name."""

    parley_case: Literal[1] = FORMAT
    name: str
    recorded_at: datetime
    masked: dict[str, int] = Field({}, description="How many values each rule hid")
    owner: str
    agent: Agent
    config: Json = {}
    tools: dict[str, Definition] = {}
    turns: list[Turn]


def read(path: Path) -> Case:
    """Raises Unusable."""
    try:
        found = _yaml().load(path.read_text("utf-8"))
    except OSError as error:
        raise Unusable(f"{path}: {error.strerror}") from error
    except (YAMLError, UnicodeDecodeError) as error:
        raise Unusable(f"{path} is no YAML: {' '.join(str(error).split())}") from error
    if not isinstance(found, dict) or found.get("parley_case") != FORMAT:
        raise Unusable(f"{path} is no case of format {FORMAT}: it does not begin with `parley_case: {FORMAT}`")
    try:
        return Case.model_validate(_plain(found))
    except ValidationError as error:
        raise Unusable(f"{path}: {first_fault(error)}") from error


def text_of(case: Case) -> str:
    """As a file's text."""
    # What is as it always is, is left out; what a reader looks for first stands first.
    told = case.model_dump(mode="json", exclude_defaults=True)
    stream = StringIO()
    _yaml().dump({"parley_case": FORMAT} | _shown(told), stream)
    return stream.getvalue()


def files_of(paths: list[Path]) -> list[Path]:
    """The cases that these files and folders are, in the order of their names. Raises Unusable where there are none."""
    found: list[Path] = []
    for path in paths:
        inside = sorted(path.rglob("*.case.yaml")) if path.is_dir() else [path]
        if not inside:
            raise Unusable(f"{path} has no cases: their names end in .case.yaml")
        found += inside
    return found


def _yaml() -> YAML:
    yaml = YAML(typ="rt", pure=True)
    yaml.width = 4096  # never folded: a text is compared as it stands
    yaml.allow_unicode = True
    yaml.default_flow_style = False
    yaml.indent(mapping=2, sequence=4, offset=2)
    return yaml


def _shown(value: Any) -> Any:
    """Texts of several lines as blocks, where YAML can hold them so."""
    if isinstance(value, dict):
        return {key: _shown(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_shown(inner) for inner in value]
    if isinstance(value, str) and "\n" in value and _fits_a_block(value):
        return LiteralScalarString(value)
    return value


def _fits_a_block(text: str) -> bool:
    return not text.startswith((" ", "\n", "\t")) and all(
        line == line.rstrip() and line.isprintable() for line in text.split("\n")
    )


def _plain(value: Any) -> Any:
    """Without the classes of the YAML library."""
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    if isinstance(value, str):
        return str(value)
    if isinstance(value, bool) or value is None or isinstance(value, datetime):
        return value
    if isinstance(value, int):
        return int(value)
    return float(value) if isinstance(value, float) else value
