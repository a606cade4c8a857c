"""What the domain asks of language models: the port, the conversation as it is asked, the models there are as data,
windows and their learning, compaction, and answers in a schema. No HTTP: that is `shared/adapters/models/`.
"""
