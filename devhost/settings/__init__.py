"""The settings of a host: app settings, host.json, function keys, the data folder.

Not here: the command line (`../cli.py`).
"""
