"""The offline model: a small server that speaks chat completions and the Responses API without a language model.

It answers when no model endpoint is set, so that every path of an app can be tried without a key,
and it plays scripts (`--scripted`) for tests and benchmarks. `python -m devhost.model --port 0`.

Invariant: it never pretends to be a language model. Its answers say that none wrote them, and a request
that it cannot serve as OpenAI would gets an OpenAI-shaped error.

Not here: anything specific to Parley.
"""
