"""The story over openapi-python-client's package `parley_api`; see story.ts."""

from __future__ import annotations

import json
import os
import time

from parley_api import AuthenticatedClient
from parley_api.api.approvals import decide_approval, list_approvals
from parley_api.api.files import export_session
from parley_api.api.messages import list_messages, post_message
from parley_api.api.sessions import create_session, delete_session, get_session, update_session
from parley_api.api.turns import get_turn
from parley_api.models import (
    ApprovalMode,
    ApprovalPage,
    ApprovalStatus,
    Decision,
    FileFormat,
    MessagePage,
    NewDecision,
    NewMessage,
    NewSession,
    PostedTurn,
    Problem,
    Session,
    SessionConfigInput,
    SessionPatch,
)
from parley_api.types import Unset

client = AuthenticatedClient(base_url=os.environ["STORY_BASE_URL"], token="none").with_headers(
    {"x-dev-user": os.environ["STORY_USER"]}
)
created = create_session.sync_detailed(
    client=client, body=NewSession(config=SessionConfigInput(max_steps=3, approval_mode=ApprovalMode.POLICY))
)
assert isinstance(created.parsed, Session)
session_id = created.parsed.id
posted = post_message.sync_detailed(
    session_id, client=client, body=NewMessage(content=os.environ["STORY_CONTENT"]), prefer="wait=30"
)
assert isinstance(posted.parsed, PostedTurn)
waits = posted.parsed.turn.status
pending = list_approvals.sync(client=client, session_id=session_id, status=ApprovalStatus.PENDING)
assert isinstance(pending, ApprovalPage)
decided = decide_approval.sync(pending.items[0].id, client=client, body=NewDecision(decision=Decision.APPROVE))
assert decided is not None
assert not isinstance(decided, Problem)
turn = get_turn.sync(session_id, posted.parsed.turn.id, client=client)
while turn is not None and not isinstance(turn, Problem) and turn.status not in {"completed", "failed", "cancelled"}:
    time.sleep(0.05)
    turn = get_turn.sync(session_id, posted.parsed.turn.id, client=client)
assert turn is not None
assert not isinstance(turn, Problem)
messages = list_messages.sync(session_id, client=client)
assert isinstance(messages, MessagePage)
patched = update_session.sync(
    session_id, client=client, body=SessionPatch(config=SessionConfigInput(approval_mode=ApprovalMode.MANUAL))
)
assert isinstance(patched, Session)
exported = export_session.sync(session_id, client=client, format_=FileFormat.PDF)
assert exported is not None
assert not isinstance(exported, Problem)
deleted = delete_session.sync_detailed(session_id, client=client)
refused = get_session.sync(session_id, client=client)
assert isinstance(refused, Problem)
code = posted.parsed.code
print(
    json.dumps(
        {
            "created": created.status_code,
            "posted": posted.status_code,
            "waits": waits,
            "code": None if isinstance(code, Unset) else code,
            "approved": decided.status,
            "ended": turn.status,
            "roles": [message.role for message in messages.items],
            "steps": patched.config.max_steps,
            "mode": patched.config.approval_mode,
            "exported": exported.payload.read(5).decode("latin1"),
            "deleted": deleted.status_code,
            "refused": refused.code,
        }
    )
)
