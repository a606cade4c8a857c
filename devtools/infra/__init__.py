"""Checks of `infra/`: what Bicep says, what a deployment would make, and the security scan.

Not here: costs (`../sizing/`).
"""
