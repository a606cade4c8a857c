"""The composition root: where the domain meets its adapters, once per process, lazily.

Each builds on the next: `services.py` (a process's services), `turns.py` (what runs a turn), `agents.py`, `live.py`
(events and who hears them), `stores.py`, `connections.py`. Not here: any rule.
"""
