"""HTTP to addresses that others choose: the guarded client of tools, and webhooks.

Not here: requests to the model (`../models/`), which go to one address that the operator set.
"""
