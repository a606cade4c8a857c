"""Stored messages as the wire shows them: one by its id, or pages of them. Implements no port; the stores beside it do.

Invariant: a list is in the order of the conversation, which is by turn, then step, then place in the step. It differs
from the order of arrival where a message was queued behind a turn. The index `messages_path` has this order, so a page
sorts nothing but itself.
"""

from __future__ import annotations

from typing import LiteralString

from psycopg import sql

from shared.adapters.postgres.listing import Listing, bounded_sql, rows_of_page
from shared.adapters.postgres.pool import Connection, Row
from shared.adapters.postgres.rows import message_from_row
from shared.sessions.models import Message
from shared.sessions.records.pages import MessageFilter, Page, invalid_cursor

_COLUMNS = sql.SQL(
    "SELECT m.id, m.session_id, m.turn_id, m.number, m.branch, m.turn_number, m.role, m.content, m.status,"
    " m.created_at, m.attachments, m.finish_reason, m.reasoning, m.output, m.left_out, m.step, m.agent_id,"
    " m.from_subagent,"
    " m.role = 'user' AND m.ordinal > 0 AS joined,"
    " CASE WHEN m.role = 'user' AND m.ordinal > 0 AND m.step > 0 THEN (SELECT o.id FROM messages o"
    "  WHERE o.turn_id = m.turn_id AND o.step = m.step AND o.ordinal = 0) END AS joined_after,"
    " CASE WHEN m.role = 'user' THEN coalesce(m.author, turn_author(m.turn_id, m.created_at)) END AS author,"
    " (SELECT c.id FROM tool_calls c WHERE m.role = 'tool' AND c.turn_id = m.turn_id AND c.step = m.step"
    "  AND c.ordinal = m.ordinal - 1) AS answers,"
    " CASE WHEN m.calls IS NULL THEN '[]'::jsonb ELSE coalesce((SELECT jsonb_agg(jsonb_build_object("
    "'id', c.id, 'message_id', c.message_id, 'name', c.name, 'arguments', c.arguments,"
    " 'decided_arguments', c.decided_arguments, 'status', c.status, 'result', c.result, 'is_client', c.is_client)"
    " ORDER BY c.ordinal)"
    " FROM tool_calls c WHERE c.message_id = m.id), '[]') END AS tool_calls"
)
_ONE = _COLUMNS + sql.SQL(" FROM messages m WHERE m.session_id = %(session_id)s AND m.id = %(message_id)s")

_ORDER = (("m", "turn_number"), ("m", "step"), ("m", "ordinal"))
# A cursor holds the number of a message, which never changes; its place is looked up.
_PLACE = sql.SQL(
    "SELECT o.turn_number, o.step, o.ordinal FROM messages o"
    " WHERE o.session_id = %(session_id)s AND o.number = %(after_key)s"
)
_OF_SESSION = sql.SQL("SELECT m.* FROM messages m WHERE m.session_id = %(session_id)s{narrowed}{ordered}")
# A page from each part of the branch's path, then the page of all of them.
_OF_PATH = sql.SQL(
    "SELECT m.* FROM branch_path(%(session_id)s, %(branch)s, 2147483647, 2147483647) part"
    " CROSS JOIN LATERAL ("
    "SELECT m.* FROM messages m WHERE m.session_id = %(session_id)s AND m.branch = part.branch"
    " AND (m.turn_number, m.step) <= (part.turn_number, part.step){narrowed}{ordered}"
    ") m{ordered}"
)
_SIZE: LiteralString = (
    # Of texts it is known without reading them. 500: the other columns, about.
    "500 + octet_length(page.content) + coalesce(octet_length(page.reasoning), 0)"
    " + coalesce(octet_length(page.output::text), 0) + coalesce(octet_length(page.from_subagent::text), 0)"
    " + CASE WHEN page.calls IS NULL THEN 0 ELSE coalesce((SELECT sum(octet_length(c.arguments::text)"
    " + coalesce(octet_length(c.decided_arguments::text), 0) + coalesce(octet_length(c.result::text), 0))"
    " FROM tool_calls c WHERE c.message_id = page.id), 0) END"
)
_PAGE = sql.SQL("{columns}, m.page_goes_on FROM ({page}) m{ordered}")


async def message_row(connection: Connection, session_id: str, message_id: str) -> Row | None:
    """One message with what `message_from_row` reads, and its place: `branch`, `turn_number`, `step`."""
    cursor = await connection.execute(_ONE, {"session_id": session_id, "message_id": message_id})
    return await cursor.fetchone()


async def list_messages(
    connection: Connection, session_id: str, wanted: MessageFilter, page: Page
) -> list[tuple[int, Message]]:
    """(number, message), one more than `page.limit` when there are more, or CutRows.

    Raises InvalidInput for a cursor that names no message.
    """
    listing = Listing(page, *_ORDER, descending=wanted.descending, place=_PLACE)
    query = _OF_SESSION
    if wanted.branch == 0:
        listing.where("m.branch = 0")
    elif wanted.branch is not None:
        query = _OF_PATH
        listing.parameters["branch"] = wanted.branch
    listing.where("m.role = %(role)s", role=wanted.role)
    listing.where("m.turn_id = %(turn_id)s", turn_id=wanted.turn_id)
    listing.where("m.created_at >= %(since)s", since=wanted.since)
    listing.where("m.created_at < %(until)s", until=wanted.until)
    listing.containing(("m", "content"), wanted.q)
    parameters = {"session_id": session_id, **listing.parameters}
    rows = bounded_sql(query.format(narrowed=listing.conditions, ordered=listing.order), size=_SIZE)
    cursor = await connection.execute(_PAGE.format(columns=_COLUMNS, page=rows, ordered=listing.order), parameters)
    found = rows_of_page(await cursor.fetchall(), page, lambda row: (row["number"], message_from_row(row)))
    if not found and page.after is not None:
        known = await connection.execute(_PLACE, parameters)
        if await known.fetchone() is None:
            raise invalid_cursor()
    return found
