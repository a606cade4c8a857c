"""Checks of `infra/`: the security scan, and Bicep held to the facts in `infra/schemas`.

Not here: costs (`../sizing/`).
"""
