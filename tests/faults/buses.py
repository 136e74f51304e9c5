"""What carries the bus between workers, as something that can be broken."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from threading import Event, Lock, Thread
from typing import Protocol

import psycopg2

from tests.support.valkey import Valkey

#: The lines of workers; they say nothing else.
LISTENERS = """
    FROM pg_stat_activity WHERE query = 'LISTEN bytechat' AND datname = current_database()
"""
CUT_LISTENERS = f"SELECT pg_terminate_backend(pid) {LISTENERS}"
COUNT_LISTENERS = f"SELECT count(*) {LISTENERS}"

#: Seconds between two looks at whether somebody listens again.
LOOK = 0.02


class Bus(Protocol):
    """``database_url`` is that of a fresh PostgreSQL, ``settings`` are a server's."""

    database_url: str
    settings: dict[str, str]

    def lines(self) -> int:
        """How many workers listen."""

    def cut(self) -> None:
        """Close the lines on which they do."""

    def away(self) -> AbstractContextManager[None]:
        """While it lasts, the bus carries nothing."""


class PostgresBus:
    """LISTEN and NOTIFY. It is away when nobody can listen for longer than a moment."""

    def __init__(self, database_url: str) -> None:
        self.database_url = database_url
        self.settings: dict[str, str] = {}
        self._lock = Lock()
        self._db = psycopg2.connect(database_url)
        self._db.autocommit = True

    def close(self) -> None:
        self._db.close()

    def lines(self) -> int:
        ((lines,),) = self._ask(COUNT_LISTENERS)
        return lines

    def cut(self) -> None:
        self._ask(CUT_LISTENERS)

    @contextmanager
    def away(self) -> Iterator[None]:
        over = Event()
        thread = Thread(target=self._cut_until, args=(over,))
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _cut_until(self, over: Event) -> None:
        while not over.wait(LOOK):
            self.cut()

    def _ask(self, statement: str) -> list[tuple[int]]:
        with self._lock, self._db.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall()


class ValkeyBus:
    """Pub/sub."""

    def __init__(self, database_url: str, valkey: Valkey) -> None:
        self.database_url = database_url
        self.settings = {"BUS_URL": valkey.url}
        self.valkey = valkey

    def lines(self) -> int:
        return self.valkey.subscribers()

    def cut(self) -> None:
        self.valkey.cut_subscribers()

    @contextmanager
    def away(self) -> Iterator[None]:
        self.valkey.stop()
        try:
            yield
        finally:
            self.valkey.start()
