"""`python -m devhost`."""

from __future__ import annotations

import sys

if __name__ == "__main__":
    try:
        from devhost.cli import exit_process, main  # slow enough for a Ctrl-C during the import
    except KeyboardInterrupt:
        sys.exit(130)
    exit_process(main())
