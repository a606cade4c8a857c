"""One writer per format, from content blocks to a file.

Not here: choosing the writer (`../generator.py`), exports of a session (`../../history/export.py`).
"""
