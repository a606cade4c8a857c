"""Queue triggers and queue outputs, on the queue service of a real storage account or of Azurite.

Not here: the queue service itself (`../servers/azurite.py`), and the queues of a durable engine, which has none.
"""
