"""The durable engine of the dev host: Durable Functions on SQLite, for any Python Durable app.

Start reading at `engine.py`. Not here: the SDK, which is part of the app.
"""
