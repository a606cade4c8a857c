"""When what happens in one turn: moments of the client, the host and the worker, put on one clock.

`moments.py` names them and notes them in each process; `command.py` runs one session and makes the table. This folder
goes before the others in the processes' PYTHONPATH, for `sitecustomize.py`. Not here: shares of processor time
(`figures/profile.py`).
"""
