"""Routes of the doors: a session's turns in the wires that other front ends speak. `entering.py` does what all of them
do: it posts, decides and streams as the main routes do, with their code.

Not here: what the wires say (`shared/sessions/doors/`).
"""
