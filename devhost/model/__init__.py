"""The offline model: a small server that speaks chat completions and the Responses API with no model behind it.

It answers when no model endpoint is set, so that every path of an app can be tried without a key,
and it plays scripts (`--scripted`) for tests and benchmarks. `python -m devhost.model --port 0`.

Invariant: it never pretends. Its answers say that no language model wrote them, and a request it
cannot serve as OpenAI would is refused with an OpenAI-shaped error.

Not here: anything of Parley: it is a model endpoint like another.
"""
