"""Paths in this checkout. Written for Python 3.8; imports nothing of the project."""

# Importing pathlib alone would take as long as the rest of the fast path of `./dev`.
# ruff: noqa: PTH118, PTH120
from __future__ import annotations

import os

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
VENV = os.path.join(ROOT, ".venv")
PYTHON = os.path.join(VENV, "bin", "python")
STAMP = os.path.join(VENV, "dev-stamp")
LOCK = os.path.join(ROOT, "requirements-dev.lock")
AGENTS_REQUIREMENTS = os.path.join(ROOT, "agents", "requirements.txt")
AGENTS_LOCK = os.path.join(ROOT, "agents", "requirements.lock")
USAGE = os.path.join(ROOT, "devtools", "setup", "usage.txt")
