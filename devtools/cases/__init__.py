"""Cases: real conversations as offline tests. `./dev record SESSION` writes one, `./dev replay` plays them.

Doors: `case.py` is the file's format, `of_wire.py` makes a case of what the API says of a session, `masking.py` hides
what is private, `replaying.py` plays cases, `comparing.py` says what changed.

Not here: replays of orchestrations' histories (`devtools/histories`), and tests of tools (`parley/testing.py`).
"""
