"""`python -m devtools.bench.peers`: the same turns as programs on other libraries run them, side by side with Parley.

`command.py` measures; `contender.py` starts a program; `program/` are the programs, which run in an environment of
their own. What each keeps, and what none of them does: README.md of the benchmark.

Not here: what is measured, and how (`devtools/bench/load`).
"""
