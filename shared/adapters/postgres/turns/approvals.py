"""Approvals in PostgreSQL. Implements `ApprovalRepository`.

Invariant: votes of one approval are cast one after the other, under the lock of its turn, and each finds out by itself
whether it was the one that was missing: of two last voters exactly one decides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from psycopg import sql

from shared.adapters.postgres.audit import PostgresAuditTrail
from shared.adapters.postgres.listing import Listing, bounded_sql, rows_of_page
from shared.adapters.postgres.pool import PostgresPool, Row, json
from shared.adapters.postgres.queries import load_queries
from shared.adapters.postgres.rows import event_target
from shared.durable.hub import TaskHub, only_hub
from shared.principal import Principal
from shared.sessions.mcp.pins import PinnedTool
from shared.sessions.models import ApprovalStatus, ClientTool, ToolCall, ToolCallStatus
from shared.sessions.records.approval_policy import ApprovalPolicy, NoticeKind, Requirement
from shared.sessions.records.approvals import (
    CONTEXT_CALLS,
    CONTEXT_CHARS,
    ApprovalBelow,
    ApprovalNotes,
    ApprovalRecord,
    CallBefore,
    CallContext,
    CutText,
    NewApproval,
    Vote,
    Voted,
    VoteEffect,
    VoteNotes,
    VoteRecord,
)
from shared.sessions.records.audit import AuditNote
from shared.sessions.records.pages import MAX_LIMIT, ApprovalFilter, Page

_Q = load_queries("turns/approvals")
_A = load_queries("audit")

_LIST_SQL = sql.SQL(
    "SELECT a.*, s.event_seq_floor, s.event_seq_ceiling, s.incarnation, counted_votes_of_approval(a.id) AS votes,"
    " t.plan ->> 'agent_id' AS agent_id, t.plan ->> 'agent_version' AS agent_version,"
    " t.plan #> ARRAY['mcp', a.tool] AS pinned, t.plan #> ARRAY['client_tools', a.tool] AS client_tool,"
    " t.plan -> 'asked_through' AS asked_through"
    " FROM approvals a, sessions s, turns t WHERE s.id = a.session_id AND t.id = a.turn_id"
)

_MINE_SQL = sql.SQL(
    # `may_decide` of `approvals/deciders.py`, said to the database. Each way to be one who may decide is a piece of an
    # index, which is read from its newest row on and no further than the page.
    "WITH mine AS MATERIALIZED ("
    "SELECT DISTINCT found.requested_at, found.approval_id"
    " FROM unnest(%(deciders)s::text[]) one (decider), unnest(%(statuses)s::text[]) its (status)"
    " CROSS JOIN LATERAL ("
    "SELECT d.requested_at, d.approval_id FROM approval_deciders d"
    " WHERE d.decider = one.decider AND d.status = its.status AND (d.since IS NULL OR d.since <= %(now)s)"
    "{narrowed}{ordered}) found"
    " ORDER BY found.requested_at DESC, found.approval_id DESC LIMIT %(limit)s) "
)
_BELOW_SQL = sql.SQL(
    # `above` as the frames of subagents name them: from the turn down to the call's own.
    "SELECT a.*, s.event_seq_floor, s.event_seq_ceiling, s.incarnation, counted_votes_of_approval(a.id) AS votes,"
    " t.plan ->> 'agent_id' AS agent_id, t.plan ->> 'agent_version' AS agent_version,"
    " t.plan #> ARRAY['mcp', a.tool] AS pinned, t.plan #> ARRAY['client_tools', a.tool] AS client_tool,"
    " t.plan -> 'asked_through' AS asked_through, o.id AS of_turn,"
    " jsonb_build_object('id', c.id, 'message_id', c.message_id, 'name', c.name, 'arguments', c.arguments,"
    " 'decided_arguments', c.decided_arguments, 'status', c.status, 'result', c.result) AS call,"
    " (SELECT jsonb_agg(jsonb_build_object('tool_call_id', e.parent_tool_call_id, 'agent_id', e.agent_id,"
    " 'session_id', e.id, 'turn_id', x.id) ORDER BY cardinality(x.ancestors))"
    " FROM turns x JOIN sessions e ON e.id = x.session_id"
    " WHERE x.id = ANY (t.ancestors || t.id) AND x.ancestors @> ARRAY[o.id]) AS above"
    " FROM turns o"
    " JOIN turns t ON t.ancestors <> '{}' AND t.ancestors @> ARRAY[o.id] AND t.in_background = o.in_background"
    " JOIN approvals a ON a.turn_id = t.id JOIN sessions s ON s.id = t.session_id"
    " JOIN tool_calls c ON c.id = a.tool_call_id"
    " WHERE o.id = ANY (%(turn_ids)s) AND (%(status)s::text IS NULL OR a.status = %(status)s)"
    # What waits is not cut off for what has ended since.
    " ORDER BY a.status = 'pending' DESC, a.requested_at DESC, a.id DESC LIMIT %(limit)s"
)
_OF_MINE_SQL = sql.SQL(" AND a.id IN (SELECT approval_id FROM mine) ORDER BY a.requested_at DESC, a.id DESC")


class PostgresApprovals:
    """`ApprovalRepository` over PostgreSQL."""

    def __init__(self, pool: PostgresPool, trail: PostgresAuditTrail, hub: TaskHub | None = None) -> None:
        """hub: of this process; None: the only one there is."""
        self._pool = pool
        self._trail = trail
        self._hub = hub or only_hub()

    async def request(self, new: NewApproval, notes: ApprovalNotes) -> tuple[ApprovalRecord | None, bool]:
        """Open the approval of a tool call, or return the one it has; the flag says whether it was opened now.

        None when the call is over or its turn was cancelled.
        """
        key = {"tool_call_id": new.tool_call_id}
        async with self._trail.transaction() as audited:
            connection = audited.connection
            head = await connection.execute(_A["lock_audit_head_of_tool_call"], key)
            request = await connection.execute(
                _Q["request_approval"],
                {
                    "tool_call_id": new.tool_call_id,
                    "approval_id": new.id,
                    "digest": new.digest,
                    "instance_id": new.instance_id,
                    "policy": json(new.policy.model_dump(mode="json")),
                    "reason": new.reason,
                    "requirements": json([one.model_dump(mode="json") for one in new.requirements] or None),
                    "expires_at": new.expires_at,
                    "now": new.requested_at,
                },
            )
            cursor = await connection.execute(_Q["approval_of_tool_call"], key)
            is_opened = await request.fetchone() is not None
            row = await cursor.fetchone()
            record = None if row is None else _approval(row)
            if record is not None and is_opened:
                await audited.append(await head.fetchone(), notes(record))
        return record, is_opened

    async def get(self, approval_id: str, user_id: str) -> ApprovalRecord | None:
        row = await self._pool.fetch_one(_Q["approval"], {"approval_id": approval_id, "user_id": user_id})
        return None if row is None else _approval(row)

    async def context(self, approval_id: str) -> CallContext | None:
        parameters = {"approval_id": approval_id, "chars": CONTEXT_CHARS, "calls": CONTEXT_CALLS}
        row = await self._pool.fetch_one(_Q["context_of_approval"], parameters)
        return None if row is None else _context(row)

    async def list_for(
        self, wanted: ApprovalFilter, page: Page, decider: Principal, *, now: datetime
    ) -> list[ApprovalRecord]:
        """What `decider` may decide by now, newest first; one more than `page.limit` when there are more, or
        CutRows."""
        listing = Listing(page, ("d", "requested_at"), ("d", "approval_id"), descending=True)
        listing.where("d.tool = %(tool)s", tool=wanted.tool)
        listing.where(
            "d.approval_id IN (SELECT id FROM approvals WHERE session_id = %(session_id)s)",
            session_id=wanted.session_id,
        )
        listing.where("d.approval_id IN (SELECT id FROM approvals WHERE turn_id = %(turn_id)s)", turn_id=wanted.turn_id)
        deciders = [f"user:{decider.user_id}", *(f"role:{role}" for role in decider.roles)]
        statuses = list(ApprovalStatus) if wanted.status is None else [wanted.status]
        mine = _MINE_SQL.format(narrowed=listing.conditions, ordered=listing.order)
        query = mine + bounded_sql(_LIST_SQL + _OF_MINE_SQL)
        parameters = {"deciders": deciders, "statuses": statuses, "now": now, **listing.parameters}
        return await self._read(query, parameters, page)

    async def list_of_turns(self, user_id: str, wanted: ApprovalFilter, page: Page) -> list[ApprovalRecord]:
        """Whoever may decide them; newest first, one more than `page.limit` when there are more, or CutRows."""
        listing = _filtered(wanted, page)
        listing.where(
            "a.requested_by = %(reader)s AND (s.owner_id = %(reader)s OR EXISTS ("
            "SELECT 1 FROM session_participants p WHERE p.session_id = s.id AND p.user_id = %(reader)s))",
            reader=user_id,
        )
        query = bounded_sql(_LIST_SQL + listing.conditions + listing.order)
        return await self._read(query, listing.parameters, page)

    async def list_in_session(self, session_id: str, wanted: ApprovalFilter, page: Page) -> list[ApprovalRecord]:
        """Whoever may decide them; newest first, one more than `page.limit` when there are more, or CutRows."""
        listing = _filtered(replace(wanted, session_id=session_id), page)
        query = bounded_sql(_LIST_SQL + listing.conditions + listing.order)
        return await self._read(query, listing.parameters, page)

    async def list_below(self, turn_ids: Sequence[str], status: ApprovalStatus | None = None) -> list[ApprovalBelow]:
        parameters = {"turn_ids": list(turn_ids), "status": status, "limit": MAX_LIMIT}
        async with self._pool.connection() as connection:
            cursor = await connection.execute(bounded_sql(_BELOW_SQL), parameters)
            found = rows_of_page(await cursor.fetchall(), Page(limit=MAX_LIMIT), _below)
        return sorted(found, key=lambda one: (one.approval.requested_at, one.approval.id))

    async def waits_for(self, session_id: str, approval_id: str) -> str | None:
        parameters = {"session_id": session_id, "approval_id": approval_id}
        row = await self._pool.fetch_one(_Q["turn_that_waits_for"], parameters)
        return None if row is None else str(row["id"])

    async def _read(self, query: sql.Composed, parameters: dict[str, Any], page: Page) -> list[ApprovalRecord]:
        async with self._pool.connection() as connection:
            cursor = await connection.execute(query, parameters)
            return rows_of_page(await cursor.fetchall(), page, _approval)

    async def vote(self, approval_id: str, vote: VoteRecord, notes: VoteNotes, *, now: datetime) -> Voted:
        """Cast a vote and, when it was the one that was missing, decide."""
        parameters = {
            "approval_id": approval_id,
            "user_id": vote.user_id,
            "decision": vote.decision.value,
            "digest": vote.digest,
            "arguments": json(vote.arguments),
            "comment": vote.comment,
            "for_session": vote.for_session,
            "grant": vote.grant,
            "counts_for": list(vote.counts_for),
            "needed": list(vote.needed),
            "quorums": list(vote.needed.values()),
            "now": now,
        }
        async with self._trail.transaction() as audited:
            connection = audited.connection
            # Session before turn before approval, as everywhere; and only a statement that starts with the locks held
            # sees whether it decides the last of several.
            head = await connection.execute(_A["lock_audit_head_of_approval"], parameters)
            await connection.execute(_Q["lock_turn_of_approval"], parameters)
            cast = await connection.execute(_Q["cast_vote"], parameters)
            decided = await connection.execute(_Q["decide_approval"], parameters)
            approval = await connection.execute(_Q["approval"], parameters)
            row = await approval.fetchone()
            if row is None:
                return Voted(VoteEffect.NOTHING, None)
            effect = VoteEffect.NOTHING if await cast.fetchone() is None else VoteEffect.COUNTED
            if await decided.fetchone() is not None:
                effect = VoteEffect.DECIDED
            record = _approval(row)
            if effect is not VoteEffect.NOTHING:
                await audited.append(await head.fetchone(), notes(effect, record))
            return Voted(effect, record)

    async def expiring(self, *, now: datetime, before: datetime) -> int:
        """How many wait and end between the two instants."""
        row = await self._pool.fetch_one(_Q["count_expiring_approvals"], {"now": now, "before": before})
        return 0 if row is None else int(row["expiring"])

    async def undelivered(self, *, before: datetime, limit: int) -> list[tuple[str, str]]:
        """(approval id, instance id) of what was decided before then and never reached its orchestration here."""
        parameters = {"before": before, "limit": limit, "hub": self._hub.id, "is_only": self._hub.is_only}
        rows = await self._pool.fetch_all(_Q["undelivered_approvals"], parameters)
        return [(row["id"], row["instance_id"]) for row in rows]

    async def give_up_delivery(self, approval_id: str, *, now: datetime) -> None:
        """Its orchestration has ended; nobody is left to tell."""
        await self._pool.execute(_Q["give_up_delivery"], {"approval_id": approval_id, "now": now})

    async def claim_unsettled_notices(
        self, *, since: datetime, before: datetime, now: datetime, limit: int
    ) -> list[tuple[str, NoticeKind]]:
        """(approval id, kind) of notices that were to be sent between the two instants and are not settled, about turns
        of this hub. Each is claimed until `before` has passed this `now`."""
        when = {"since": since, "before": before, "now": now, "limit": limit}
        of_hub = {"hub": self._hub.id, "is_only": self._hub.is_only}
        rows = await self._pool.fetch_all(_Q["claim_unsettled_notices"], when | of_hub)
        return [(row["id"], NoticeKind(row["kind"])) for row in rows]

    async def settle_notice(self, approval_id: str, kind: NoticeKind, note: AuditNote | None = None) -> None:
        """Note that nothing more is to be done for a notice. note: of its delivery."""
        parameters = {"approval_id": approval_id, "kind": kind.value}
        if note is None:
            await self._pool.execute(_Q["settle_notice"], parameters)
            return
        async with self._trail.transaction() as audited:
            head = await audited.connection.execute(_A["lock_audit_head_of_approval"], parameters)
            await audited.connection.execute(_Q["settle_notice"], parameters)
            await audited.append(await head.fetchone(), [note])


def _filtered(wanted: ApprovalFilter, page: Page) -> Listing:
    listing = Listing(page, ("a", "requested_at"), ("a", "id"), descending=True)
    listing.where("a.status = %(status)s", status=wanted.status)
    listing.where("a.session_id = %(session_id)s", session_id=wanted.session_id)
    listing.where("a.turn_id = %(turn_id)s", turn_id=wanted.turn_id)
    listing.where("a.tool = %(tool)s", tool=wanted.tool)
    return listing


def _below(row: Row) -> ApprovalBelow:
    return ApprovalBelow(row["of_turn"], _approval(row), ToolCall.of_store(row["call"]), tuple(row["above"]))


def _context(row: Row) -> CallContext:
    before = tuple(
        CallBefore(
            name=call["name"],
            step=call["step"],
            status=ToolCallStatus(call["status"]),
            arguments=CutText(call["arguments"], call["arguments_length"]),
            result=_cut(call, "result"),
            said=CutText(call["said"], call["said_length"]),
            address=call["address"],
        )
        for call in row["before"]
    )
    return CallContext(
        session_name=row["session_name"],
        question=_cut(row, "question"),
        asked_by=row["asked_by"],
        asked_at=row["asked_at"],
        files=tuple(row["files"]),
        note=_cut(row, "note"),
        said=CutText(row["said"], row["said_length"]),
        reasoning=_cut(row, "reasoning"),
        sources=frozenset(row["sources"]),
        before=before,
        before_count=row["before_count"],
    )


def _cut(row: Mapping[str, Any], name: str) -> CutText | None:
    return None if row[name] is None else CutText(row[name], row[f"{name}_length"])


def _approval(row: Row) -> ApprovalRecord:
    return ApprovalRecord(
        id=row["id"],
        tool_call_id=row["tool_call_id"],
        session_id=row["session_id"],
        turn_id=row["turn_id"],
        tool=row["tool"],
        arguments=row["arguments"],
        arguments_digest=row["arguments_digest"],
        decided_arguments=row["decided_arguments"],
        status=ApprovalStatus(row["status"]),
        requested_by=row["requested_by"],
        requested_at=row["requested_at"],
        expires_at=row["expires_at"],
        decided_by=row["decided_by"],
        decided_at=row["decided_at"],
        comment=row["comment"],
        instance_id=row["instance_id"],
        target=event_target(row),
        policy=ApprovalPolicy.model_validate(row["policy"]),
        requirements=tuple(Requirement.model_validate(one) for one in row["requirements"] or ()),
        votes=tuple(Vote.model_validate(vote) for vote in row["votes"]),
        for_session=row["for_session"],
        reason=row["reason"],
        agent_id=row["agent_id"],
        agent_version=None if row["agent_version"] is None else int(row["agent_version"]),
        asked_through=tuple(row["asked_through"] or ()),
        owner_id=row.get("owner_id"),
        participates=bool(row.get("participates", False)),
        traceparent=row.get("traceparent"),
        correlation_id=row.get("correlation_id"),
        pinned=None if row["pinned"] is None else PinnedTool.model_validate(row["pinned"]),
        client_tool=None if row["client_tool"] is None else ClientTool.model_validate(row["client_tool"]),
    )
