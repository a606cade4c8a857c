"""The entry point of `python -m devtools.bench.peers`."""

import sys

from devtools.bench.peers.command import main

sys.exit(main(sys.argv[1:]))
