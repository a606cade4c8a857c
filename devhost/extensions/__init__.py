"""Binding extensions: their interface, and the loading of those that an app needs.

Not here: the extensions themselves (`../durable/`, `../signalr/`).
"""
