"""`python -m devtools.bench [arguments]`: the same as `./dev bench`."""

from __future__ import annotations

import sys

from devtools.bench import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
