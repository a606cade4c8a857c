"""One writer per format: a file made of content blocks.

Not here: choosing the writer (`../generator.py`), exports of a session (`../../history/export.py`).
"""
