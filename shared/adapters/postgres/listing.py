"""Lists by the page: the conditions, the order and the parameters of one that its caller filters, and the bound on the
bytes of any. Implements no port.

Invariant: a page begins behind the last item of the page before, in the very order of the list, so that no item is left
out or shown twice while others come and go. Values travel as parameters, never in the text.

Invariant: the database sends the rows of a page up to and with the one at which they have PAGE_BYTES, and no more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, LiteralString

from psycopg import sql

from shared.adapters.postgres.pool import Row
from shared.sessions.records.pages import PAGE_BYTES, CutRows, Page

_BOUNDED: LiteralString = (
    # The order of the rows is the inner query's: a window without an order of its own keeps it. Each row is told how
    # many bytes stand before it, and whether there is one after it.
    "SELECT * FROM (SELECT page.*, lead(true) OVER () AS page_goes_on, coalesce(sum({size})"
    " OVER (ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS page_bytes"
    " FROM ({query}) page) page WHERE page_bytes < {most}"
)
_WHOLE_ROW: LiteralString = "octet_length(page::text)"


def bounded(query: bytes, *, size: str = _WHOLE_ROW) -> bytes:
    """A list's query, bounded by PAGE_BYTES. size: the bytes of a row of `page`, which is the query."""
    return _BOUNDED.format(size=size, query=query.decode(), most=PAGE_BYTES).encode()


def bounded_sql(query: sql.Composable, *, size: LiteralString = _WHOLE_ROW) -> sql.Composed:
    """The same of a query that is composed."""
    return sql.SQL(_BOUNDED).format(size=sql.SQL(size), query=query, most=sql.Literal(PAGE_BYTES))


def rows_of_page[Item](rows: Sequence[Row], page: Page, item: Callable[[Row], Item]) -> list[Item]:
    """The items of a bounded query's rows; CutRows if the page ended early."""
    items = list(map(item, rows))
    return CutRows(items) if rows and rows[-1]["page_goes_on"] and len(rows) <= page.limit else items


class Listing:
    """What a query adds to its own text: `conditions` at the end of a WHERE that has some, then `order`."""

    def __init__(
        self, page: Page, *columns: tuple[str, str], descending: bool, place: sql.Composable | None = None
    ) -> None:
        """columns: (table, column), unique together: what the list is sorted by, and `page.after` holds.

        place: a query of these columns for the item that `page.after` names instead, as `after_key` and `after_id`.
        """
        self._order = [sql.Identifier(*column) for column in columns]
        self._direction = sql.SQL(" DESC" if descending else "")
        self._narrowed: list[sql.Composable] = []
        # One row more than the page holds tells whether there are more.
        self.parameters: dict[str, Any] = {"limit": page.limit + 1}
        if page.after is not None:
            after = dict(zip(("after_key", "after_id"), page.after, strict=True))
            self._narrow(
                sql.SQL("({}) {} ({})").format(
                    sql.SQL(", ").join(self._order),
                    sql.SQL("<" if descending else ">"),
                    sql.SQL(", ").join(map(sql.Placeholder, after)) if place is None else place,
                ),
                after,
            )

    def where(self, condition: LiteralString, **values: Any) -> None:
        """Only rows for which this holds; all of them when the filter says nothing of it: when a value is None."""
        if all(value is not None for value in values.values()):
            self._narrow(sql.SQL(condition), values)

    def containing(self, column: tuple[str, str], text: str | None) -> None:
        """Only rows whose column has this text in it, in any case."""
        if text is not None:
            # Whatever the locale of the database is: in "C", `lower` knows the letters of ASCII alone.
            condition = sql.SQL("position(lower({} COLLATE pg_c_utf8) IN lower({} COLLATE pg_c_utf8)) > 0")
            self._narrow(condition.format(sql.Placeholder("q"), sql.Identifier(*column)), {"q": text})

    def _narrow(self, condition: sql.Composable, values: dict[str, Any]) -> None:
        self._narrowed.append(sql.SQL(" AND ") + condition)
        self.parameters |= values

    @property
    def conditions(self) -> sql.Composed:
        return sql.Composed(self._narrowed)

    @property
    def order(self) -> sql.Composed:
        columns = sql.SQL(", ").join(column + self._direction for column in self._order)
        return sql.SQL(" ORDER BY ") + columns + sql.SQL(" LIMIT %(limit)s")
