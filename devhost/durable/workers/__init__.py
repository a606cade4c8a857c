"""Workers for orchestrations, activities, entities and timers, each with a concurrency limit.

Not here: the decision of an episode (`../replay/`).
"""
