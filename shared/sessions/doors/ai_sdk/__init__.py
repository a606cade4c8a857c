"""The UI message stream (v1) of the AI SDK: what `useChat` sends (`request.py`) and reads (`wire.py`), and a session's
history as its messages (`history.py`).

Not here: the routes (`triggers/doors/ai_sdk.py`).
"""
