"""The Chromium of the browser tests: the machine's own, or one of the npm registry with all the libraries it needs.

Not here: what the tests do with it (`tests/web/support/browsing.py`).
"""
