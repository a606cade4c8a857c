"""For operators: health, metrics, the sweep, the timers that forget, the lines that alerts look for.

Not here: what the sweep repeats, which is the domain's.
"""
