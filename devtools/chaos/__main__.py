"""`python -m devtools.chaos [arguments]`: the same as `./dev chaos`."""

from __future__ import annotations

import sys

from devtools.chaos.command import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
