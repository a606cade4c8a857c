"""Tools that a model may call: the decorator and its types, the registry, the services that tools use.

Each tool is one module in `builtin/`. Not here: running a call (`tool_handler.py`), approving it (`approvals/`).
"""
