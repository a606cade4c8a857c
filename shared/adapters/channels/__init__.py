"""Cards as Teams, Slack and mail want them: one module each, which writes a card and sends it.

Not here: what a card says (`shared/sessions/channels/cards.py`), and webhooks of users (`../http/posting.py`).

Invariant: text of models and people stands only where the channel renders plain text: no markup, no mention.
"""
