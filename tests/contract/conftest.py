"""Fixtures of the contract tests: the host of the end-to-end tests, and its judge."""

from __future__ import annotations

from tests.e2e.support.stack import api, contract, model_url, own_host, parley, sink

__all__ = ["api", "contract", "model_url", "own_host", "parley", "sink"]
