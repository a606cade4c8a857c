"""`python -m devhost`."""

from __future__ import annotations

from devhost.cli import exit_process, main

if __name__ == "__main__":
    exit_process(main())
