"""What a model call used: as its server says where that can be true, else estimated, so that budgets bind.

Invariant: a server's number is never taken where it cannot be: a request that nothing was read for, an answer of no
tokens, or more than such a call can have.
"""

from __future__ import annotations

import logging

from shared.sessions.context.window import BYTES_PER_TOKEN
from shared.sessions.models import Usage

log = logging.getLogger(__name__)

_TIMES = 8
"""How far off our estimate of what is read may be: no vocabulary has less than a token for three bytes by more than
that, and images cost up to three times what we take them for."""
_UNSEEN = 100_000
"""What may come on top: a server's own instructions, and reasoning that no limit of the request holds for."""


def used(said: Usage | None, *, model: str, asked: int, written: int, most: int | None) -> Usage:
    """The call's usage, without its cost. said: by the server. asked: tokens of the request, by our estimate. written:
    bytes of the answer and its calls. most: the answer's limit in tokens."""
    reads, writes = asked, -(-written // BYTES_PER_TOKEN)
    if said is None:
        return Usage(input_tokens=reads, output_tokens=writes)
    is_read = 0 < said.input_tokens <= _TIMES * asked + _UNSEEN
    # A token of text is a byte of it at least.
    is_written = (said.output_tokens > 0 or not written) and said.output_tokens <= max(written, most or 0) + _UNSEEN
    if is_read and is_written:
        return said
    log.warning(
        "model %s: its server says %d input and %d output tokens of about %d and %d; what cannot be is estimated",
        *(model, said.input_tokens, said.output_tokens, reads, writes),
    )
    reads = said.input_tokens if is_read else reads
    writes = said.output_tokens if is_written else writes
    return Usage(
        input_tokens=reads,
        output_tokens=writes,
        cached_input_tokens=min(said.cached_input_tokens, reads),
        reasoning_tokens=min(said.reasoning_tokens, writes),
    )
