"""A local Azure Functions host: runs an unmodified Python app with no cloud and no Core Tools."""

from __future__ import annotations

VERSION = "1.0.0"
