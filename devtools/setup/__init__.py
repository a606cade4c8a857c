"""Makes a complete `.venv` with any Python that started `./dev`; the lock files. For Python 3.8, except `lock.py`.

Not here: the commands that run in `.venv`.
"""
