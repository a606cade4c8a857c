"""What runs: orchestrations, activities, entities, timers, each with its limit of how many at a time.

Not here: what an episode decides (`../replay/`).
"""
