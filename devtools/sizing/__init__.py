"""What a deployment costs and where its limits are, computed from counts and prices.

Not here: the counting (`../measure_turn.py`).
"""
