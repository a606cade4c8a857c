"""Doors: a session's turns in the wires that other front ends speak. `door.py` says what a door is, `reader.py` reads a
turn's events for one, `threads.py` finds the session of an id that a client made up; one module for each wire.

Not here: the routes (`triggers/doors/`), and anything that a door would do beside the main routes: it posts, decides
and cancels with the services that they use.
"""
