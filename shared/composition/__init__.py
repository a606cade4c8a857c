"""The composition root: where the domain meets its adapters, once per process, lazily.

`services.py` over `stores.py` over `connections.py`. Not here: any rule.
"""
