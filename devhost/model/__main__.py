"""`python -m devhost.model --port N`: serve the offline model until SIGTERM or Ctrl-C."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from pathlib import Path

from devhost.model.options import OVERFLOWS, ModelOptions
from devhost.model.server import start_server
from devhost.threads import in_new_thread

try:
    import uvloop
except ImportError:  # uvloop does not exist for Windows; the standard loop also works, only slower
    new_event_loop = asyncio.new_event_loop
else:
    new_event_loop = uvloop.new_event_loop


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m devhost.model", description="The offline model server.")
    parser.add_argument("--port", type=int, required=True, help="0 picks a free port")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--ready-file", type=Path, help="written with the base URL once the server listens")
    parser.add_argument("--tokens-per-second", type=float, default=66.0, help="0: as fast as possible")
    parser.add_argument("--first-token-ms", type=float, default=200.0)
    parser.add_argument("--scripted", action="store_true", help="obey #script lines (tests, benchmarks)")
    _add_refusals(parser)
    arguments = parser.parse_args()
    options = ModelOptions(
        scripted=arguments.scripted,
        first_s=arguments.first_token_ms / 1000,
        token_s=1 / arguments.tokens_per_second if arguments.tokens_per_second > 0 else 0.0,
        context_tokens=arguments.context_tokens,
        overflow=arguments.overflow,
        models=tuple(arguments.model),
        api_key=arguments.api_key,
        refused_parameters=tuple(arguments.refuse_parameter),
        tools_need_responses=arguments.tools_need_responses,
        no_tool_choice=arguments.no_tool_choice,
    )
    try:
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(_serve(options, arguments.host, arguments.port, arguments.ready_file))
    except OSError as exc:
        print(f"offline model: cannot listen on {arguments.host}:{arguments.port}: {exc}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0
    return 0


def _add_refusals(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("refusals, as on real servers")
    group.add_argument("--context-tokens", type=int, default=128_000, metavar="N", help="size of the context window")
    group.add_argument("--overflow", choices=OVERFLOWS, default="openai", help="server whose overflow error is used")
    group.add_argument("--model", action="append", default=[], metavar="NAME", help="accept only this name; repeatable")
    group.add_argument("--api-key", metavar="KEY", help="refuse requests without this key")
    group.add_argument(
        "--refuse-parameter", action="append", default=[], metavar="NAME", help="dotted when nested: reasoning.summary"
    )
    group.add_argument("--tools-need-responses", action="store_true", help="refuse tools in chat completions")
    group.add_argument("--no-tool-choice", action="store_true", help="refuse tools unless one is named, as vLLM may")


async def _serve(options: ModelOptions, host: str, port: int, ready_file: Path | None) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    if sys.platform != "win32":
        for signum in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(signum, stop.set)
    runner, real_port = await start_server(options, host=host, port=port)
    try:
        url = f"http://{host}:{real_port}/v1"
        print(f"offline model ready on {url}", flush=True)
        if ready_file is not None:
            await in_new_thread(lambda: _write_at_once(ready_file, url + "\n"))
        await stop.wait()
    finally:
        await runner.cleanup()


def _write_at_once(path: Path, text: str) -> None:
    # Renamed into place, so that a reader never sees half a file.
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)


if __name__ == "__main__":
    sys.exit(main())
