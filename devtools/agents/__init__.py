"""The commands for what is not Parley's: what is wrong with a folder of agents and tools, and new files for it.

Not here: how the app finds them (`shared/sessions/tools/modules/importing.py`, `shared/sessions/agents/files.py`).
"""
