"""What touches the outside world, behind the domain's ports: one package per technology.

Not here: the ports (`shared/sessions/`), where both meet (`shared/composition/`).
"""
