"""The registry of a worker's connections, and the fan-out of rooms' frames to them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from threading import Event, Lock
from time import monotonic

from .connection import Connection
from .feed import Feed
from .turns import TURN_SECONDS, give_way

log = logging.getLogger(__name__)

#: Frames that are read from the database at once.
PAGE = 500

#: Rooms whose gaps are filled between two passes: a millisecond or two each, from the database.
GAPS_AT_ONCE = 8

#: Bytes that are given out in one pass, about: a quarter of the outbox of a member, so that a burst
#: does not overflow that of one who reads.
PORTION = 262_144

#: Reads a room's frames after a rev: (room, since, limit) -> [(rev, frame)], ascending. May raise.
ReadSince = Callable[[int, int, int], list[tuple[int, bytes]]]


class Hub:
    """Who is connected to this worker, and in which rooms.

    The lock guards looking up and changing; the members are copied under it and written to outside.
    """

    def __init__(self, read_since: ReadSince) -> None:
        self._read_since = read_since
        self._lock = Lock()
        self._connections: set[Connection] = set()
        self._feeds: dict[int, Feed] = {}
        self._news: dict[int, None] = {}  # rooms with something to give out, in their turn
        self._gaps: dict[int, None] = {}  # rooms of which something must be read first
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
                    self._note(room, feed)
                feed.add(connection)
            return {room: self._feeds[room].head for room in heads}

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
        """The owners who are connected in any of these rooms, each once."""
        with self._lock:
            return list(set().union(*(self._feeds[room].online for room in rooms)))

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
                    self._note(room, feed)

    def compare(self, heads: Mapping[int, int]) -> None:
        """Look for rooms whose head in the database is past what was offered here."""
        with self._lock:
            for room, head in heads.items():
                feed = self._feeds.get(room)
                if feed and head > feed.newest:
                    feed.behind = True
                    self._note(room, feed)

    def step(self) -> None:
        """Wait for news, and give out what there is: one pass, one write for each member.

        While a pass goes over the members, new frames gather; the next one writes them all at once.
        """
        self._ring.wait()
        self._ring.clear()
        began = monotonic()
        for connection, batches in self._take().items():
            try:
                connection.push(*batches)
            except Exception:
                log.exception("a socket could not be written to")
                connection.abandon()  # a frame is missing, so no other may follow
            # By the clock: a write of 200 KB takes ten times as long as one of 300 bytes.
            if monotonic() - began > TURN_SECONDS:
                give_way()
                began = monotonic()
        self._catch_up()
        give_way()

    def _take(self) -> dict[Connection, list[bytes]]:
        """What each member is owed: the batches of their rooms, shared and not copied."""
        owed: dict[Connection, list[bytes]] = {}
        left = PORTION
        with self._lock:
            for room in list(self._news):
                if left <= 0:
                    break  # in the next pass these come first
                del self._news[room]
                if feed := self._feeds.get(room):
                    batch = feed.take(left)
                    left -= len(batch)
                    self._note(room, feed)
                    if batch:
                        for connection in feed.members:
                            owed.setdefault(connection, []).append(batch)
            if self._news:
                self._ring.set()
        return owed

    def _note(self, room: int, feed: Feed) -> None:
        """See that the room's turn comes, if it has something to do. With the lock held."""
        if feed.ring:
            self._news[room] = None
        if feed.gap:
            self._gaps[room] = None
        if self._news or self._gaps:
            self._ring.set()

    def _catch_up(self) -> None:
        """Fill the gaps of some rooms from the database. No lock is held meanwhile."""
        with self._lock:
            rooms = list(islice(self._gaps, GAPS_AT_ONCE))
        for room in rooms:
            with self._lock:
                del self._gaps[room]
                feed = self._feeds.get(room)
                if feed is None or not feed.gap:
                    continue
                feed.behind = False  # what is found out from now on may be after what is read
                since = feed.newest
            try:
                frames = self._read_since(room, since, PAGE)
            except Exception as error:
                # The database, most likely; the next comparison of heads tries again.
                log.warning("a room could not be read", extra={"room": room, "error": repr(error)})
                with self._lock:
                    feed.behind = True
                continue
            with self._lock:
                feed.fill(frames)
                feed.behind = feed.behind or len(frames) == PAGE
                self._note(room, feed)
        with self._lock:
            if self._gaps:
                self._ring.set()
