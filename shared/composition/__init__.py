"""The composition root: where the domain meets its adapters, once per process, lazily.

`services.py` builds on `stores.py`, which builds on `connections.py`. Not here: any rule.
"""
