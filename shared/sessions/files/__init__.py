"""Files of a session: attached, analysed, generated, kept as blobs, forgotten.

Not here: what a model reads of them (`context/note.py`, `context/images.py`), the blob store (`adapters/`).
"""
