"""The registry of a worker's connections, and the fan-out of rooms' frames to them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from threading import Event, Lock

from .connection import Connection
from .feed import Feed

log = logging.getLogger(__name__)

#: Sockets that are written to before other greenlets get their turn: about 2.5 ms at 10 us each.
SLICE = 250

#: Frames that are read from the database at once.
PAGE = 500

#: Reads a room's frames after a rev: (room, since, limit) -> [(rev, frame)], ascending. May raise.
Reader = Callable[[int, int, int], list[tuple[int, bytes]]]


class Hub:
    """Who is connected to this worker, and in which rooms.

    The lock guards looking up and changing; the members are copied under it and written to outside.
    """

    def __init__(self, read_since: Reader) -> None:
        self._read_since = read_since
        self._lock = Lock()
        self._connections: set[Connection] = set()
        self._feeds: dict[int, Feed] = {}
        self._news: set[int] = set()  # rooms with something to do
        self._ring = Event()

    def __len__(self) -> int:
        return len(self._connections)

    def join(self, connection: Connection, heads: Mapping[int, int]) -> dict[int, int]:
        """Register the connection in these rooms, whose heads the database has just said.

        Returns, per room, the rev after which it will be given every frame.
        """
        with self._lock:
            self._connections.add(connection)
            for room, head in heads.items():
                if (feed := self._feeds.get(room)) is None:
                    feed = self._feeds[room] = Feed(head)
                    # What was committed between that look and this line was offered to nobody.
                    feed.behind = True
                    self._news.add(room)
                feed.add(connection)
            starts = {room: self._feeds[room].head for room in heads}
        self._ring.set()
        return starts

    def leave(self, connection: Connection, rooms: Iterable[int]) -> None:
        """Take the connection out of the registry."""
        with self._lock:
            self._connections.discard(connection)
            for room in rooms:
                feed = self._feeds[room]
                feed.remove(connection)
                if not feed.members:
                    del self._feeds[room]

    def connections(self) -> list[Connection]:
        """All connections at this moment."""
        with self._lock:
            return list(self._connections)

    def online(self, rooms: Iterable[int]) -> list[int]:
        """The owners who are connected in any of these rooms, each once, ascending."""
        with self._lock:
            return sorted({owner for room in rooms for owner in self._feeds[room].online})

    def rooms(self) -> list[int]:
        """The rooms that somebody here is in."""
        with self._lock:
            return list(self._feeds)

    def publish(self, frames: Iterable[tuple[int, int, bytes]]) -> None:
        """Offer committed frames, (room, rev, frame), to whoever is in their rooms."""
        with self._lock:
            for room, rev, frame in frames:
                if feed := self._feeds.get(room):
                    feed.offer(rev, frame)
                    self._news.add(room)
        self._ring.set()

    def compare(self, heads: Mapping[int, int]) -> None:
        """Look for rooms whose head in the database is past what was offered here."""
        with self._lock:
            for room, head in heads.items():
                feed = self._feeds.get(room)
                if feed and head > feed.newest:
                    feed.behind = True
                    self._news.add(room)
        self._ring.set()

    def step(self) -> None:
        """Wait for news, and give out what there is: one pass over the members of each room.

        While a pass goes over the members, new frames gather; the next one writes them all at once.
        """
        self._ring.wait()
        self._ring.clear()
        with self._lock:
            news, self._news = self._news, set()
        for room in news:
            self._deliver(room)
        time.sleep(0)

    def _deliver(self, room: int) -> None:
        self._catch_up(room)
        with self._lock:
            feed = self._feeds.get(room)
            batch, members = feed.take() if feed else (b"", [])
            if feed and feed.fresh:
                self._news.add(room)
                self._ring.set()
        if not batch:
            return
        for position, connection in enumerate(members, start=1):
            connection.push(batch)
            if position % SLICE == 0:
                time.sleep(0)

    def _catch_up(self, room: int) -> None:
        """Fill the room's gap from the database, if it has one. No lock is held meanwhile."""
        with self._lock:
            feed = self._feeds.get(room)
            if feed is None or not feed.gap:
                return
            feed.behind = False  # what is found out from now on may be after what is read
            since = feed.newest
        try:
            frames = self._read_since(room, since, PAGE)
        except Exception as error:
            # The database, most likely; the next comparison of heads tries again.
            log.warning("a room could not be read", extra={"room": room, "error": repr(error)})
            with self._lock:
                feed.behind = True
            return
        with self._lock:
            feed.fill(frames)
            feed.behind = feed.behind or len(frames) == PAGE
            if feed.gap:
                self._news.add(room)
                self._ring.set()
