"""The built-in tools, one decorated function per module; the registry finds them here.

A new tool is a new module. Not here: the ports to the services that tools use (`../services.py`).
"""
