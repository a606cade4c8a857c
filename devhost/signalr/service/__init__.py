"""The embedded SignalR service: hubs, connections, groups, the client's protocol, the REST API of servers, tokens.

Not here: the bindings that send to it (`../extension.py`, `../outputs.py`, `../senders.py`).
"""
