"""Model endpoints over HTTP: one client, two APIs (responses, chat completions), and what servers do differently.

Start at `service.py`. What a model is asked is made in `shared/sessions/`; nothing here decides that.
"""
