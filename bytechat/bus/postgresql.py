"""The bus on PostgreSQL's LISTEN and NOTIFY: nothing to install, and one server fewer.

Every notification goes to every worker, and NOTIFY's commits take turns in the whole server, which
is plenty for the tens of workers that one PostgreSQL serves (docs/scaling.md).
"""

from __future__ import annotations

import select
from time import monotonic
from typing import Any

import msgspec
from sqlalchemy import Engine as Database
from sqlalchemy import text

from ..storage import single_statements

#: PostgreSQL's own limit is under 8,000 bytes.
PAYLOAD_MAX = 7_900

#: Everybody listens to one channel: a server looks through the list of a connection's channels for
#: each notification, and most workers have somebody in most rooms that are talked in.
CHANNEL = "bytechat"

#: Seconds that a line may be silent before it is asked whether it still stands.
SILENT_SECONDS = 5.0

_notify = text("""
    SELECT pg_notify(:channel, payload) FROM json_array_elements_text(:payloads) AS payload
    """)


class PostgresEngine:
    """LISTEN on a connection of its own, NOTIFY through the pool."""

    name = "postgresql"
    payload_max = PAYLOAD_MAX
    alone = False

    def __init__(self, database: Database) -> None:
        self._database = database

    def send(self, messages: list[tuple[str, bytes]]) -> None:
        """One statement, which is a transaction of its own: never in that of a batch of messages.

        A commit with a NOTIFY in it waits for those of all others.
        """
        payloads = msgspec.json.encode([payload.decode() for _topic, payload in messages]).decode()
        with single_statements(self._database) as db:
            db.execute(_notify, {"channel": CHANNEL, "payloads": payloads})

    def subscribe(self) -> PostgresLine:
        return PostgresLine(self._database)

    def check(self) -> None:
        """Nothing: it is the database, which is asked anyway."""

    def close(self) -> None:
        """Nothing: the pool is not ours."""


class PostgresLine:
    """A connection that listens. It is not the pool's: LISTEN belongs to one connection."""

    def __init__(self, database: Database) -> None:
        pooled = database.raw_connection()
        connection: Any = pooled.driver_connection
        pooled.detach()
        connection.autocommit = True
        self._connection = connection
        self._listen()
        # Not select(): its descriptors end at 1,024, and a line may be opened after many sockets.
        self._poll = select.poll()
        self._poll.register(self._connection.fileno(), select.POLLIN)
        self._heard_at = monotonic()

    def follow(self, topics: frozenset[str]) -> bool:  # noqa: ARG002
        """Nothing: there is one channel for all."""
        return False

    def hear(self) -> list[bytes]:
        # A statement may have brought some along, which the socket then does not show any more.
        if not self._connection.notifies:
            if self._poll.poll(SILENT_SECONDS * 1000):
                self._connection.poll()
            elif monotonic() - self._heard_at >= SILENT_SECONDS:
                self._listen()  # fails in time when nobody is there any more
            self._heard_at = monotonic()
        arrived = [notice.payload.encode() for notice in self._connection.notifies]
        self._connection.notifies.clear()
        return arrived

    def close(self) -> None:
        self._connection.close()

    def _listen(self) -> None:
        """Once is enough; but it is what pg_stat_activity then shows of this connection."""
        with self._connection.cursor() as cursor:
            cursor.execute(f"LISTEN {CHANNEL}")
