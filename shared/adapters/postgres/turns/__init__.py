"""Messages, turns, model steps, tool calls and approvals: posted, run, waited for, closed.

Not here: reading them as history (`../history/`).
"""
