"""What a host runs with: app settings, host.json, function keys, the data folder.

Not here: the command line (`cli.py`).
"""
