"""The web console's files, the API's page, and who is calling.

Not here: the console itself (`web/`).
"""
