"""Fixtures of the client packages' tests: the hosts of the end-to-end tests."""

from __future__ import annotations

from tests.e2e.support.stack import api, contract, model_url, own_host, parley, sink

__all__ = ["api", "contract", "model_url", "own_host", "parley", "sink"]
