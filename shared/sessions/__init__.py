"""The sessions domain: its modules as its document names them, and a package for each concept that supports them.

Not here: anything that touches the outside world (`shared/adapters/`).
"""
