"""From whatever Python started `./dev` to a complete `.venv`; the lock files. Written for Python 3.8 but for `lock.py`.

Not here: the commands that run in it.
"""
