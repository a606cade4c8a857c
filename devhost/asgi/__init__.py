"""What every ASGI part of the host shares: replies, CORS, the principal headers that Azure's front end adds.

Not here: who answers which request (`http/`).
"""
