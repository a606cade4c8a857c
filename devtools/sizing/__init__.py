"""The costs and limits of a deployment, computed from measured turns and prices.

Not here: the measurement (`../measure_turn.py`).
"""
