"""What a session can talk to and call: agents and their versions, tools.

Not here: the tools (`shared/sessions/tools/`).
"""
