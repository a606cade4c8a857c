"""An Azure SignalR Service (serverless mode) inside the dev host, and the two bindings that use it.

Not here: which function sends what; a client library.
"""
