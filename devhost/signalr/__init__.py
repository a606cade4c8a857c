"""An Azure SignalR Service (serverless mode) inside the dev host, and the two bindings that use it.

Not here: a client library, and what an app sends.
"""
