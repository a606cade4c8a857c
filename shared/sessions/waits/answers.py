"""What a user answered, checked against what was asked; and what was posted as a result.

Invariant: what a call goes on with is what its questions allow: each is answered once, and content fits its form.
"""

from __future__ import annotations

import hashlib

import orjson

from shared.canonical import canonical_json
from shared.errors import ErrorCode, InvalidInput
from shared.sessions.models import InputAction, InputAnswer, JsonObject, NewInput, NewToolResult, Question, ToolWait
from shared.sessions.records.waits import AnswerRecord
from shared.sessions.structured_output.checks import check_output
from shared.sessions.tools.output import ToolOutput, output_of
from shared.storable import storable_text

MAX_CONTENT_BYTES = 16 * 1024
"""Of one answer."""


def checked_answer(wait: ToolWait, body: NewInput, user_id: str) -> AnswerRecord:
    """Raises InvalidInput(VALIDATION_ERROR), whose `errors` name the fields and never their values."""
    asked = {question.id: question for question in wait.questions}
    errors = [_error(name, "is not asked") for name in body.answers.keys() - asked.keys()]
    errors += [_error(name, "is not answered") for name in asked.keys() - body.answers.keys()]
    for name, question in asked.items():
        if name in body.answers:
            fault = _fault(question, body.answers[name])
            errors += [] if fault is None else [_error(name, fault)]
    if errors:
        raise InvalidInput(ErrorCode.VALIDATION_ERROR, "The answer does not fit what is asked.", errors=errors)
    answer: JsonObject = {name: _said(one) for name, one in body.answers.items()}
    digest = hashlib.sha256(canonical_json([wait.id, answer])).hexdigest()
    return AnswerRecord(wait.id, user_id, answer, digest, {name: one.action for name, one in body.answers.items()})


def posted_result(wait: ToolWait, body: NewToolResult, user_id: str) -> AnswerRecord:
    """The result or the error of a call, bounded as every result is."""
    answer: JsonObject = {"error": storable_text(body.error)} if body.error is not None else _output(body)
    digest = hashlib.sha256(canonical_json([wait.id, answer])).hexdigest()
    return AnswerRecord(wait.id, user_id, answer, digest, {})


def workflow_result(wait: ToolWait, outcome: JsonObject) -> AnswerRecord:
    """What a workflow has made of a call (`tools/kinds/workflows.py`), for the user for whom it ran."""
    digest = hashlib.sha256(canonical_json([wait.id, outcome])).hexdigest()
    return AnswerRecord(wait.id, wait.asked_of, outcome, digest, {})


def _output(body: NewToolResult) -> JsonObject:
    if body.content is not None:
        output = ToolOutput(body.content, body.data)
    elif isinstance(body.data, str):
        output = ToolOutput(body.data, body.data)
    else:
        output = output_of(body.data)
    return {"content": output.content, "data": output.data}


def _fault(question: Question, answer: InputAnswer) -> str | None:
    if answer.action is not InputAction.ACCEPT:
        return None if answer.content is None else f"has content although it says {answer.action}"
    if answer.content is None:
        return "needs content"
    text = orjson.dumps(answer.content)
    if len(text) > MAX_CONTENT_BYTES:
        return f"is longer than {MAX_CONTENT_BYTES} bytes"
    _, error = check_output(question.requested_schema, text.decode(), "content")
    return error


def _said(answer: InputAnswer) -> JsonObject:
    if answer.action is not InputAction.ACCEPT:
        return {"action": answer.action.value}
    return {"action": answer.action.value, "content": answer.content}


def _error(name: str, message: str) -> dict[str, str]:
    return {"field": f"answers.{name}", "message": message}
