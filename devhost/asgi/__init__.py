"""Shared by all ASGI parts of the host: replies, CORS, the host names it answers to, and the principal headers that
Azure's front end adds.

Not here: the routing of requests (`../http/`).
"""
