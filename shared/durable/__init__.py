"""What crosses the durable boundary: names of functions and events, and the inputs and outputs of each.

Instances that wait hold them: renaming breaks them. Not here: the orchestrators, which may import nothing else of this.
"""
