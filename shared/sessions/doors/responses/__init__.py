"""OpenAI Responses: `door.py` maps a turn's events to its stream, `items.py` has the shapes, `ids.py` the ids,
`request.py` what a client may post.

Not here: the routes (`triggers/doors/`), and reading events (`../reader.py`).
"""
