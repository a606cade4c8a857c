"""Tags, pins, session templates and statistics.

Not here: the presets, which are data of the domain.
"""
