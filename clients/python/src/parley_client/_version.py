"""The package's version, and how it names itself to the service."""

from __future__ import annotations

__version__ = "0.1.0"
USER_AGENT = f"parley-client/{__version__}"
