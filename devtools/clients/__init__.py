"""The client packages: `./dev publish` builds and publishes them (`publish.py`).

`python.py` makes `parley-client` from `clients/python/`, `javascript.py` makes `@parley/client` from `web/src/client/`.
Not here: what the packages do; see their READMEs.
"""
