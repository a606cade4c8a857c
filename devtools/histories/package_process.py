"""Runs the orchestrators of an app's folder, in a process of its own: `python package_process.py FOLDER`.

Standing alone, since it may run in the environment of another app: it imports nothing of this project. It says on
standard output which functions there are, then answers each line of standard input, one JSON object each:

    {"name": "turn", "context": {...}}  ->  {"state": "..."} or {"failure": "ValueError: ..."}
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import warnings
from collections.abc import Callable

_ORCHESTRATION, _ACTIVITY = "orchestrationTrigger", "activityTrigger"


def main(folder: str) -> None:
    # Answers go where only this module writes: what the app prints is not mixed into them.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    sys.path.insert(0, folder)
    os.chdir(folder)
    warnings.simplefilter("ignore")
    handles: dict[str, Callable[[str], str]] = {}
    activities: list[str] = []
    for function in importlib.import_module("function_app").app.get_functions():
        for binding in function.get_bindings():
            told = binding.get_dict_repr()
            if binding.type == _ORCHESTRATION:
                handles[(told.get("orchestration") or function.get_function_name()).casefold()] = (
                    function.get_user_function()
                )
            elif binding.type == _ACTIVITY:
                activities.append(told.get("activity") or function.get_function_name())
    print(json.dumps({"orchestrations": sorted(handles), "activities": activities}), file=answers, flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            answer = {"state": handles[asked["name"].casefold()](json.dumps(asked["context"]))}
        except Exception as exc:  # the SDK reports an orchestrator's failure, with its state, as an exception
            answer = {"failure": f"{type(exc).__name__}: {exc}"}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
