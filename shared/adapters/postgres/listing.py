"""Lists that their callers filter: the conditions, the order and the parameters of one page. Implements no port.

Invariant: a page begins behind the last item of the page before, in the very order of the list, so that no item is left
out or shown twice while others come and go. Values travel as parameters, never in the text.
"""

from __future__ import annotations

from typing import Any, LiteralString

from psycopg import sql

from shared.sessions.records.pages import Page


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
