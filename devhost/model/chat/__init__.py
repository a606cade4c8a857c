"""Chat completions: the request and the answer on the wire."""
