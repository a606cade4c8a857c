"""Running a tool so that nothing it does harms more than its own call.

Invariant: whatever comes out of a tool, `SystemExit` included, is a `ToolFailed` of its call, or a cancellation that
was asked for. A tool that does not end when it must is left alone, and the log says so.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import Protocol

from shared.errors import AppError, ErrorCode, ToolFailed, ToolRefused
from shared.sessions.tools.base import MAX_ERROR_CHARS, Tool, ToolArguments, ToolContext
from shared.sessions.tools.deferred import Deferred
from shared.sessions.tools.output import MAX_CONTENT_CHARS, ToolFile, ToolOutput
from shared.sessions.tools.running.loop_watch import LoopBlocked, LoopWatch
from shared.sessions.tools.running.masking import NO_MASK, Mask

log = logging.getLogger(__name__)

GRACE_S = 2.0
"""How long an async tool that was cancelled may take to clean up."""
_UNEXPECTED = "The tool failed unexpectedly."
_BLOCKED = "The tool blocked the process and was interrupted; its outcome is unknown."
WATCH = LoopWatch()


class ToolRunner(Protocol):
    """As `run_tool`: a replay of a recorded conversation has another one, which runs nothing."""

    async def __call__(
        self, tool: Tool, arguments: ToolArguments, context: ToolContext, *, timeout_s: float, mask: Mask
    ) -> ToolOutput | Deferred: ...


async def run_tool(
    tool: Tool,
    arguments: ToolArguments,
    context: ToolContext,
    *,
    timeout_s: float,
    mask: Mask = NO_MASK,
    grace_s: float = GRACE_S,
    watch: LoopWatch = WATCH,
) -> ToolOutput | Deferred:
    """What the tool returned, masked. Raises ToolFailed: its own words, TOOL_TIMEOUT, or that it failed unexpectedly.

    timeout_s: after it, or when the caller is cancelled, the tool is told to end, and has `grace_s` for that.
    """
    context.link.loop = asyncio.get_running_loop()
    # A task of its own can be left behind. SystemExit would pass through it into the event loop: there it is a value.
    task = asyncio.create_task(_contained(tool, arguments, context, watch))
    try:
        done, _ = await asyncio.wait({task}, timeout=timeout_s)
        if not done:
            await _end(task, tool, context, grace_s)
    except asyncio.CancelledError:
        await _end(task, tool, context, grace_s)
        raise
    finally:
        context.link.stop()
    if not task.done() or task.cancelled():
        raise ToolFailed(_late(context, timeout_s), code=ErrorCode.TOOL_TIMEOUT)
    ended = task.exception() or task.result()
    if isinstance(ended, ToolOutput):
        return _masked(ended, mask)
    if isinstance(ended, Deferred):
        return _masked_questions(ended, mask)
    if isinstance(ended, AppError):
        kind = ToolRefused if isinstance(ended, ToolRefused) else ToolFailed
        raise kind(mask.text(ended.safe_message)[:MAX_ERROR_CHARS], code=ended.code) from ended
    if isinstance(ended, LoopBlocked):
        raise ToolFailed(_BLOCKED, code=ErrorCode.TOOL_TIMEOUT) from ended
    # A tool's bug must not cost the turn; the model is told that it failed, the operator is told why.
    log.error("tool %s failed in call %s", tool.name, context.tool_call_id, exc_info=ended)
    raise ToolFailed(_UNEXPECTED) from ended


def _masked(output: ToolOutput, mask: Mask) -> ToolOutput:
    if not mask:
        return output
    content = mask.cut_text(output.content, MAX_CONTENT_CHARS)
    files = [
        ToolFile(mask.text(file.name), mask.text(file.content) if isinstance(file.content, str) else file.content)
        for file in output.files
    ]
    return ToolOutput(content, mask.json(output.data), files)


def _masked_questions(deferred: Deferred, mask: Mask) -> Deferred:
    if not mask:
        return deferred
    shown = [one.model_copy(update={"message": mask.text(one.message)}) for one in deferred.questions]
    return replace(deferred, questions=tuple(shown))


async def _contained(
    tool: Tool, arguments: ToolArguments, context: ToolContext, watch: LoopWatch
) -> ToolOutput | Deferred | BaseException:
    try:
        with watch.over(_call.__code__):
            return await _call(tool, arguments, context)
    except GeneratorExit:
        raise
    except asyncio.CancelledError as exc:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        return exc  # of something that the tool itself has cancelled
    except BaseException as exc:
        return exc


async def _call(tool: Tool, arguments: ToolArguments, context: ToolContext) -> ToolOutput | Deferred:
    """Of its own, for the watch: what runs within it is the tool's."""
    return await tool.run(arguments, context)


async def _end(
    task: asyncio.Task[ToolOutput | Deferred | BaseException], tool: Tool, context: ToolContext, grace_s: float
) -> None:
    context.link.stop()
    task.cancel()
    await asyncio.wait({task}, timeout=grace_s)
    if not task.done():
        log.error("the tool %s goes on although its call %s was cancelled", tool.name, context.tool_call_id)


def _late(context: ToolContext, timeout_s: float) -> str:
    if context.link.waits_for_thread:
        return f"The tool did not run: no thread was free within {timeout_s:g} seconds."
    return f"The tool did not finish within {timeout_s:g} seconds."
