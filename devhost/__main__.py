"""`python -m devhost`."""

from __future__ import annotations

import sys

if __name__ == "__main__":
    try:
        from devhost.cli import exit_process, main  # takes long enough for somebody to change their mind
    except KeyboardInterrupt:
        sys.exit(130)
    exit_process(main())
