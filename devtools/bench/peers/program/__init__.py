"""What a peer runs: `python -m devtools.bench.peers.program ENGINE`, in the environment of `requirements.txt`.

`web.py` answers the four requests of the load generator, `conversation.py` keeps the messages and asks the model,
`engines.py` runs turns: alone, on DBOS, on LangGraph. They are what their documentation shows, and no less careful.

Not here: anything of Parley, whose packages this environment does not have.
"""
