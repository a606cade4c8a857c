"""PostgreSQL: the stores of the domain's ports, each with its SQL in a file beside it, over one pool (`pool.py`).

Not here: the migrations and the command that applies them (`../sql/`).
"""
