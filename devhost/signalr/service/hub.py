"""A hub: its connections, and who is in which group.

Invariant: `groups` and each connection's own `groups` mirror each other, and hold only connections that are
in `connections`. Each send encodes its message at most once a protocol, whatever the number of receivers.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

from devhost.signalr.service.connection import Connection
from devhost.signalr.service.memberships import UserGroups
from devhost.signalr.service.protocol import JSON, Frame, HubProtocol


class Hub:
    """The state of one hub; hub names are lower case."""

    def __init__(self, name: str, user_groups: UserGroups) -> None:
        self.name = name
        self.connections: dict[str, Connection] = {}
        self.users: dict[str, set[Connection]] = {}
        self.groups: dict[str, set[Connection]] = {}
        self._user_groups = user_groups

    # -- connections

    def connect(self, connection: Connection) -> None:
        """Add a client; it joins the stored groups of its user."""
        self.connections[connection.connection_id] = connection
        if connection.user_id is not None:
            self.users.setdefault(connection.user_id, set()).add(connection)
            for group in self._user_groups.of(self.name, connection.user_id):
                self._join(connection, group)

    def disconnect(self, connection: Connection) -> None:
        """Forget a client and its groups."""
        if self.connections.pop(connection.connection_id, None) is None:
            return
        for group in tuple(connection.groups):
            self._leave(connection, group)
        if connection.user_id is not None:
            _discard(self.users, connection.user_id, connection)

    def user_is_in_group(self, user_id: str, group: str) -> bool:
        return group in self._user_groups.of(self.name, user_id)

    # -- groups

    def add_connection_to_group(self, connection_id: str, group: str) -> bool:
        """Add a connection until it disconnects. False when there is no such connection."""
        connection = self.connections.get(connection_id)
        if connection is None:
            return False
        self._join(connection, group)
        return True

    def remove_connection_from_group(self, connection_id: str, group: str) -> bool:
        """False when there is no such connection."""
        connection = self.connections.get(connection_id)
        if connection is None:
            return False
        self._leave(connection, group)
        return True

    def remove_connection_from_all_groups(self, connection_id: str) -> None:
        connection = self.connections.get(connection_id)
        for group in tuple(connection.groups) if connection else ():
            self.remove_connection_from_group(connection_id, group)

    def add_user_to_group(self, user_id: str, group: str, *, ttl_s: float | None = None) -> None:
        """Add the user's current and later connections, for `ttl_s` seconds or without a time limit.

        ttl_s 0: only the current connections.
        """
        if ttl_s is None or ttl_s > 0:
            self._user_groups.add(self.name, user_id, group, ttl_s=ttl_s)
        for connection in self.users.get(user_id, ()):
            self._join(connection, group)

    def remove_user_from_group(self, user_id: str, group: str) -> None:
        self._user_groups.remove(self.name, user_id, group)
        for connection in self.users.get(user_id, ()):
            self._leave(connection, group)

    def remove_user_from_all_groups(self, user_id: str) -> None:
        self._user_groups.remove_all(self.name, user_id)
        for connection in self.users.get(user_id, ()):
            for group in tuple(connection.groups):
                self._leave(connection, group)

    # -- sending

    def receivers(
        self, *, connection_id: str | None = None, user_id: str | None = None, group: str | None = None
    ) -> Collection[Connection]:
        """The connections at an address; all connections without one. An unknown address has none."""
        if connection_id is not None:
            connection = self.connections.get(connection_id)
            return () if connection is None else (connection,)
        if user_id is not None:
            return self.users.get(user_id, ())
        if group is not None:
            return self.groups.get(group, ())
        return self.connections.values()

    def send(
        self,
        target: str,
        arguments: Sequence[Any],
        receivers: Iterable[Connection],
        *,
        excluded: Collection[str] = (),
    ) -> None:
        """Call a client method. excluded: connection ids that are left out.

        Raises ValueError, before anything is sent, when the arguments cannot be written in a receiver's protocol or as
        JSON.
        """
        chosen = [connection for connection in receivers if connection.connection_id not in excluded]
        encoded: dict[HubProtocol, Frame] = {JSON: JSON.invocation(target, arguments)}
        for connection in chosen:
            protocol = connection.protocol
            if protocol is not None and protocol not in encoded:
                encoded[protocol] = protocol.invocation(target, arguments)
        for connection in chosen:
            if connection.protocol is not None:
                connection.enqueue(encoded[connection.protocol])

    def close(self, receivers: Iterable[Connection], *, reason: str | None, excluded: Collection[str] = ()) -> None:
        """Close connections permanently: their clients do not reconnect by themselves."""
        for connection in tuple(receivers):
            if connection.connection_id not in excluded:
                connection.close(reason)

    def _join(self, connection: Connection, group: str) -> None:
        connection.groups.add(group)
        self.groups.setdefault(group, set()).add(connection)

    def _leave(self, connection: Connection, group: str) -> None:
        connection.groups.discard(group)
        _discard(self.groups, group, connection)


def _discard(index: dict[str, set[Connection]], key: str, connection: Connection) -> None:
    members = index.get(key)
    if members is None:
        return
    members.discard(connection)
    if not members:
        del index[key]
