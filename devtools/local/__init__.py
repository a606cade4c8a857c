"""`./dev up`: its programs, the environment of the app, start and stop.

Not here: the servers themselves (`devhost/servers/`).
"""
