"""Scripts: a message whose first line says what the model answers, at which pace, and where it breaks off.

Not here: the two APIs (`../chat/`, `../responses/`).
"""
