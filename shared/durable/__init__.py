"""What crosses the durable boundary: names of functions and events, and the inputs and outputs of each.

Waiting instances hold these names, so renaming one breaks them. Not here: the orchestrators.
"""
