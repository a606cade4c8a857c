"""SessionCache: what is read again and again is kept beside the database."""

from __future__ import annotations


class CacheUnavailable(Exception):
    """The cache does not answer."""
