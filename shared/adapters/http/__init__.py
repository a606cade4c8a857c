"""Outgoing HTTP: the guarded client of tools, and webhooks.

Not here: requests to the model (`../models/`), which go to one address set by the operator.
"""
