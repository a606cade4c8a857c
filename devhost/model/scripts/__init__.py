"""Scripts: a message whose first line says how the model is to answer, at which pace, and where it breaks off.

Not here: the two APIs (`../chat/`, `../responses/`).
"""
