"""`./dev up`: what it runs, the environment that the app gets, start and stop.

Not here: the servers themselves (`devhost/servers/`).
"""
