"""Checks of `infra/`: the security scan, and Bicep checked against `infra/schemas`.

Not here: costs (`../sizing/`).
"""
