"""HTML pages: the host's functions and extensions, and the landing page.

Not here: the data of extensions' pages (`../extensions/contract.py`).
"""
