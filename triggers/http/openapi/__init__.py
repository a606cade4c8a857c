"""The OpenAPI document: built from the declared operations and the models that validate requests, in the shape that
generators of clients read well.

Not here: the routes that serve it (`triggers/site/documents.py`).
"""
