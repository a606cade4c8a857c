"""Pages for a person: what the host runs, instances as pictures, the landing page.

Not here: the data behind them, which each extension gives (`extensions/contract.py`).
"""
