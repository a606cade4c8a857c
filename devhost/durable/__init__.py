"""The durable engine of the dev host: Durable Functions on SQLite, for any Python Durable app.

Start at `engine.py`. Not here: the SDK, which is the app's own.
"""
