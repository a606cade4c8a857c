"""Files of a session: upload, analysis, generation, storage as blobs, deletion.

Not here: files in the model's context (`context/note.py`, `context/images.py`), the blob store (`adapters/`).
"""
