"""The worker: a process of its own that imports the app and runs its functions, as in Azure.

Not here: the host, which feeds, times and restarts it (`../app/`).
"""
