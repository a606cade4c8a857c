"""One reader per kind of file: what it is and what text it holds, within bounds of time and memory.

Not here: choosing the reader (`../analyzer.py`), keeping files (`../attachments.py`).
"""
