"""Models: the port that every adapter implements, its conversation format, the registry of models and their windows.

Not here: HTTP and the two APIs (`adapters/models/`), building the context (`context/`).
"""
