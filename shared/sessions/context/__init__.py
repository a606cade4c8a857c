"""The model's context: the newest messages that fit its window, summaries, images, notes on files.

Not here: the request itself (`model_requests/`, `llm/`), stored messages as people see them (`history/`).
"""
