"""What a model reads of a conversation: the newest messages that fit its window, summaries, images, notes on files.

Not here: the request itself (`executor.py`, `llm/`), what is stored and shown to people (`history/`).
"""
