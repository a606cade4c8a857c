"""What a conversation's file says of its messages beside their text: authors, how answers ended, JSON, reasoning."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest
from markdown_it import MarkdownIt

from shared.sessions.files.analyzer import FileAnalyzer
from shared.sessions.files.generator import FileGenerator
from shared.sessions.files.writers.content import ConversationExport, FileFormat
from shared.sessions.models import FinishReason, Message, MessageRole, MessageStatus, SubagentResult, TurnStatus
from tests.unit.files import documents

READ = [FileFormat.MD, FileFormat.HTML, FileFormat.PDF, FileFormat.DOCX]
"""What people read; the others are for programs and say the same in fields."""


def made(message: Message, file_format: FileFormat) -> str:
    """The whole file as text; of pdf and docx, the text that a reader sees."""
    content = ConversationExport(documents.session(), [message], documents.NOW)
    data = b"".join(FileGenerator().chunks(content, file_format))
    if file_format in (FileFormat.PDF, FileFormat.DOCX):
        return FileAnalyzer().analyze(io.BytesIO(data)).text or ""
    return data.decode("utf-8-sig")


def answer(content: str = "So far", **changes: Any) -> Message:
    return documents.message(content, MessageRole.ASSISTANT, **changes)


def row_of(message: Message) -> dict[str, str]:
    (row,) = csv.DictReader(io.StringIO(made(message, FileFormat.CSV), newline=""))
    return row


# How answers ended. ------------------------------------------------------------------------------

ENDS = {
    FinishReason.LENGTH: "Cut at the output limit",
    FinishReason.CONTENT_FILTER: "Stopped by the content filter",
    FinishReason.REFUSAL: "The model declined",
    FinishReason.CANCELLED: "Cancelled",
}


@pytest.mark.parametrize("file_format", READ)
@pytest.mark.parametrize("reason", FinishReason)
def test_an_answer_that_is_not_whole_says_why_and_any_other_says_nothing(
    file_format: FileFormat, reason: FinishReason
) -> None:
    text = made(answer(finish_reason=reason), file_format)
    assert "So far" in text
    assert [words for words in ENDS.values() if words in text] == [words for words in [ENDS.get(reason)] if words]


@pytest.mark.parametrize("file_format", READ)
@pytest.mark.parametrize(
    ("status", "reason", "said"),
    [
        # Cut with its turn, or stored before there were reasons.
        (MessageStatus.CANCELLED, None, "Cancelled"),
        (MessageStatus.FAILED, None, "Failed"),
        # Whole, and not what it was to be.
        (MessageStatus.FAILED, FinishReason.STOP, "Failed"),
        (MessageStatus.FAILED, FinishReason.CONTENT_FILTER, "Stopped by the content filter"),
    ],
)
def test_an_answer_without_a_telling_reason_says_what_became_of_it(
    file_format: FileFormat, status: MessageStatus, reason: FinishReason | None, said: str
) -> None:
    text = made(answer(status=status, finish_reason=reason), file_format)
    assert [words for words in ("Failed", *ENDS.values()) if words in text] == [said]


@pytest.mark.parametrize("reason", FinishReason)
def test_programs_read_the_reason_as_the_api_gives_it(reason: FinishReason) -> None:
    (message,) = json.loads(made(answer(finish_reason=reason), FileFormat.JSON))["messages"]
    assert (message["finish_reason"], row_of(answer(finish_reason=reason))["finish_reason"]) == (reason, reason)


# Who wrote. --------------------------------------------------------------------------------------


@pytest.mark.parametrize("file_format", READ)
def test_a_message_names_its_author_where_one_is_known(file_format: FileFormat) -> None:
    assert "User (ann@example.org) ·" in made(documents.message("hi", author="ann@example.org"), file_format)
    assert "User ·" in made(documents.message("hi"), file_format)
    assert "Assistant ·" in made(answer(), file_format)


@pytest.mark.parametrize("file_format", READ)
def test_the_result_of_a_subagent_is_told_as_its_own(file_format: FileFormat) -> None:
    text = made(result(), file_format)
    assert "Agent in the background (researcher)" in text
    assert "a blue whale" in text
    assert "User" not in text


def test_programs_read_the_result_of_a_subagent() -> None:
    assert row_of(result())["content"] == "It has answered.\na blue whale"


def result() -> Message:
    told = SubagentResult(
        tool_call_id="c",
        agent_id="researcher",
        session_id="s",
        turn_id="t",
        status=TurnStatus.COMPLETED,
        content="a blue whale",
    )
    return documents.message("It has answered.", MessageRole.USER, from_subagent=told)


def test_an_authors_name_is_no_markup_and_no_formula() -> None:
    named = documents.message("hi", author="=<b>*x*</b>")
    assert "User (=\\<b\\>\\*x\\*\\</b\\>)" in made(named, FileFormat.MD)
    assert "User (=&lt;b&gt;*x*&lt;/b&gt;)" in made(named, FileFormat.HTML)
    assert row_of(named)["author"] == "'=<b>*x*</b>"


# Answers to a schema. ----------------------------------------------------------------------------


@pytest.mark.parametrize("file_format", READ)
def test_an_answer_to_a_schema_is_shown_once_as_json(file_format: FileFormat) -> None:
    # Markdown would make a heading and emphasis of it.
    text = made(answer('```json\n{"title":"# *A*"}\n```', output={"title": "# *A*"}), file_format)
    text = text.replace("&quot;", '"').replace("\xa0", " ")
    assert text.count('"title": "# *A*"') == 1
    assert '"title":"' not in text


def test_an_answer_to_a_schema_is_a_document_of_its_own_in_json_and_a_cell_in_csv() -> None:
    structured = answer('{"n": 1}', output={"n": 1, "words": ["a", None]})
    (message,) = json.loads(made(structured, FileFormat.JSON))["messages"]
    assert (message["content"], message["output"]) == ('{"n": 1}', {"n": 1, "words": ["a", None]})
    row = row_of(structured)
    assert (row["content"], json.loads(row["output"])) == ('{"n": 1}', {"n": 1, "words": ["a", None]})


# What no model reads any more. -------------------------------------------------------------------


@pytest.mark.parametrize("file_format", READ)
def test_a_message_that_was_left_out_says_so(file_format: FileFormat) -> None:
    text = made(documents.message("asked", left_out="content_filter"), file_format)
    assert "asked" in text
    assert "No model reads this any more" in text
    assert "No model reads" not in made(documents.message("asked"), file_format)


def test_programs_read_why_a_message_was_left_out() -> None:
    assert row_of(documents.message("asked", left_out="content_filter"))["left_out"] == "content_filter"


# Reasoning. --------------------------------------------------------------------------------------


@pytest.mark.parametrize("file_format", FileFormat)
def test_reasoning_is_in_json_md_and_html_alone(file_format: FileFormat) -> None:
    text = made(answer("The answer", reasoning="Let me see"), file_format)
    assert "The answer" in text
    assert ("Let me see" in text) == (file_format in (FileFormat.JSON, FileFormat.MD, FileFormat.HTML))


def test_reasoning_is_folded_in_html() -> None:
    page = made(answer("The answer", reasoning="Let **me** <script>see</script>"), FileFormat.HTML)
    folded = page[page.index("<details>") : page.index("</details>")]
    assert '<summary dir="auto">Reasoning</summary>' in folded
    assert "<strong>me</strong> &lt;script&gt;" in folded
    assert "The answer" not in folded


@pytest.mark.parametrize("gap", ["\n\n", "\r\n\r\n", "\r\r", "\n \n", "\n```\n\n"])
def test_reasoning_stays_in_its_quote_in_markdown_and_the_answer_out_of_it(gap: str) -> None:
    text = made(answer("# The answer", reasoning=f"First{gap}Second"), FileFormat.MD)
    depth, found = 0, {}
    for token in MarkdownIt().parse(text):
        depth += {"blockquote_open": 1, "blockquote_close": -1}.get(token.type, 0)
        for words in ("Reasoning", "First", "Second", "The answer"):
            if words in token.content:
                found[words] = depth
    assert found == {"Reasoning": 1, "First": 1, "Second": 1, "The answer": 0}


# All of it. --------------------------------------------------------------------------------------


def test_json_holds_every_field_that_the_api_shows() -> None:
    full = answer(
        finish_reason=FinishReason.STOP, reasoning="Let me see", output={"a": 1}, left_out="content_filter",
        agent_id="assistant", joined=True, joined_after="01a2",
        from_subagent=result().from_subagent,
    )  # fmt: skip
    (message,) = json.loads(made(full, FileFormat.JSON))["messages"]
    assert message == json.loads(full.model_dump_json())
    assert set(message) == set(Message.model_fields)
