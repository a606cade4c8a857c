"""For operators: health, metrics, the sweep, the retention timers, the log lines that alerts look for.

Not here: the work that the sweep repeats, which is in `shared/sessions/`.
"""
