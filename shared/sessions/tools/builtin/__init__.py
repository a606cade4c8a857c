"""The tools that come with the app, one decorated function a module; the registry finds them here.

A new tool is a new module. Not here: what they use from outside (`../services.py`), which are ports.
"""
