"""The tools a model may call. One tool is one decorated async function in a module of this package.

`base.py` holds what a tool is made of, `registry.py` finds the tools; every other module is a tool.
"""
