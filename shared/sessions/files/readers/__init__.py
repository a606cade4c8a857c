"""One reader per kind of file: recognises it and extracts its text, within limits of time and memory.

Not here: choosing the reader (`../analyzer.py`), storing files (`../attachments.py`).
"""
