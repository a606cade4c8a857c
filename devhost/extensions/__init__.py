"""Binding extensions: what one looks like, and how those that an app needs are found.

Not here: the extensions themselves (`durable/`, `signalr/`).
"""
