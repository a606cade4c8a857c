"""Cards for Teams, parsed by Microsoft's own library of Adaptive Cards."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from shared.adapters.channels import teams
from tests.support.cards import card, hostile_card
from tests.support.node import install, node_binary, node_environment

pytestmark = pytest.mark.integration

HERE = Path(__file__).parent / "adaptive"


@pytest.fixture(scope="module")
def modules() -> Path:
    return install(HERE)


def _parsed(modules: Path, message: dict[str, Any]) -> dict[str, Any]:
    done = subprocess.run(
        [node_binary(), HERE / "check.cjs"],
        input=json.dumps(message),
        env=node_environment(modules),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return dict(json.loads(done.stdout))


def test_it_finds_nothing_wrong_and_understands_all_of_a_card(modules: Path) -> None:
    for told in (card(), hostile_card(), card({"body": "🎉" * 50_000})):
        message = teams.message(told)
        parsed = _parsed(modules, message)
        assert parsed["faults"] == []
        content = message["attachments"][0]["content"]
        assert _texts(parsed["understood"]) == _texts(content)
        assert parsed["understood"]["actions"] == content["actions"]


def test_what_is_no_card_is_found(modules: Path) -> None:
    message = teams.message(card())
    content = message["attachments"][0]["content"]
    content["body"].append({"type": "Nonsense"})
    content["actions"][0].pop("url")
    assert len(_parsed(modules, message)["faults"]) == 2


def _texts(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["text"]] if value.get("type") == "TextRun" else []
        return own + [text for part in value.values() for text in _texts(part)]
    return [text for part in value for text in _texts(part)] if isinstance(value, list) else []
