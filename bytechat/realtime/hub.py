"""The registry of a worker's connections, and the fan-out of rooms' frames to them."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from threading import Event, Lock
from time import monotonic

from .cohort import Cohort
from .connection import Connection
from .feed import Feed
from .turns import TURN_SECONDS, give_way

log = logging.getLogger(__name__)

#: Frames that are read from the database at once.
PAGE = 500

#: Bytes that a member is given in one visit, about: a quarter of its outbox, so that a burst does
#: not overflow that of one who reads.
PORTION = 262_144

#: Reads a room's frames after a rev: (room, since, limit) -> [(rev, frame)], ascending. May raise.
ReadSince = Callable[[int, int, int], list[tuple[int, bytes]]]


def _note_nothing(_room: int) -> None:
    """Nobody wants to know."""


class Hub:
    """Who is connected to this worker, and in which rooms.

    Connections are in cohorts, and those that are owed something are visited in turn, for ever: so
    a frame that comes now goes out with the next visit, and nobody waits longer than one rotation.

    The lock guards looking up and changing; what to write is taken under it, and written outside.
    ``entered`` and ``left`` are called under it, in order, with a room that the first connection
    here has entered, or the last one left; they may only note it.
    """

    def __init__(
        self,
        read_since: ReadSince,
        *,
        entered: Callable[[int], None] = _note_nothing,
        left: Callable[[int], None] = _note_nothing,
    ) -> None:
        self._read_since = read_since
        self._entered = entered
        self._left = left
        self._lock = Lock()
        self._connections: dict[Connection, Cohort] = {}
        self._open: dict[Cohort, None] = {}  # those that are not full
        self._feeds: dict[int, Feed] = {}
        self._queue: OrderedDict[Cohort, None] = OrderedDict()  # those that are owed something
        self._ring = Event()  # whether there are any
        self._gaps: OrderedDict[int, None] = OrderedDict()  # rooms of which something must be read
        self._gap_ring = Event()  # whether there are any
        #: Frames, and their bytes, that were given to members, each of them counted.
        self.frames_delivered = self.bytes_delivered = 0

    def __len__(self) -> int:
        return len(self._connections)

    def join(self, connection: Connection, heads: Mapping[int, int]) -> dict[int, int]:
        """Register the connection in these rooms, whose heads the database has just said.

        Returns, per room, the rev after which it will be given every frame.
        """
        with self._lock:
            cohort = self._seat(connection)
            given = {}
            for room, head in heads.items():
                if (feed := self._feeds.get(room)) is None:
                    feed = self._feeds[room] = Feed(head)
                    # What was committed between that look and this line was offered to nobody.
                    feed.behind = True
                    self._note(room, feed)
                    self._entered(room)
                given[room] = feed.enter(cohort, connection)
            return given

    def leave(self, connection: Connection, rooms: Iterable[int]) -> None:
        """Take the connection out of the registry."""
        with self._lock:
            cohort = self._connections[connection]
            for room in rooms:
                feed = self._feeds[room]
                feed.leave(cohort, connection)
                if not feed.places:
                    del self._feeds[room]
                    self._left(room)
                else:
                    self._note(room, feed)  # there may be room for more now
            self._unseat(connection)

    def _seat(self, connection: Connection) -> Cohort:
        """Put the connection into a cohort that has room. With the lock held."""
        cohort = next(iter(self._open), None) or Cohort()
        self._connections[connection] = cohort
        cohort.size += 1
        self._open[cohort] = None
        if cohort.full:
            del self._open[cohort]
        return cohort

    def _unseat(self, connection: Connection) -> None:
        """With the lock held."""
        cohort = self._connections.pop(connection)
        cohort.size -= 1
        self._open[cohort] = None
        if not cohort.size:
            del self._open[cohort]
            self._queue.pop(cohort, None)

    def connections(self) -> list[Connection]:
        """All connections at this moment."""
        with self._lock:
            return list(self._connections)

    def rooms(self) -> list[int]:
        """The rooms that somebody here is in."""
        with self._lock:
            return list(self._feeds)

    def publish(self, frames: Iterable[tuple[int, int, bytes]]) -> None:
        """Offer committed frames, (room, rev, frame), to whoever is in their rooms."""
        with self._lock:
            offered = {}
            for room, rev, frame in frames:
                if feed := self._feeds.get(room):
                    feed.offer(rev, frame)
                    offered[room] = feed
            for room, feed in offered.items():
                self._note(room, feed)

    def whisper(
        self,
        rooms: Iterable[int],
        frame: bytes,
        *,
        besides: int | None = None,
        droppable: bool = False,
    ) -> None:
        """Give a frame without a number to whoever is in any of these rooms now, once.

        ``besides`` is an owner who is not given it. ``droppable`` is whether it can be missed: then
        it is dropped where too many are waiting already.
        """
        with self._lock:
            hearers: dict[Cohort, set[Connection]] = {}
            for room in rooms:
                if feed := self._feeds.get(room):
                    for cohort, place in feed.places.items():
                        hearers.setdefault(cohort, set()).update(place.members)
            for cohort, members in hearers.items():
                if others := [member for member in members if member.owner != besides]:
                    cohort.whisper(frame, others, droppable=droppable)
                    self._queue[cohort] = None
                    self._ring.set()

    def compare(self, heads: Mapping[int, int]) -> None:
        """Look for rooms whose head in the database is past what was offered here."""
        with self._lock:
            for room, head in heads.items():
                feed = self._feeds.get(room)
                if feed and head > feed.newest:
                    feed.behind = True
                    self._note(room, feed)

    def step(self) -> None:
        """Wait for news, and give out what there is: one rotation, one write for each member.

        While it goes over the cohorts, new frames gather for those that are still to be visited.
        """
        self._ring.wait()
        began = monotonic()
        for _ in range(len(self._queue)):
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
        with self._lock:
            if not self._queue:
                self._ring.clear()
        give_way()

    def _take(self) -> dict[Connection, list[bytes]]:
        """What each member of the next cohort is owed: batches, shared and not copied."""
        with self._lock:
            if not self._queue:
                return {}  # the others have left meanwhile
            cohort, _ = self._queue.popitem(last=False)
            owed: dict[Connection, list[bytes]] = {}
            for frame, members in cohort.whispers:
                for connection in members:
                    owed.setdefault(connection, []).append(frame)
            cohort.whispers.clear()
            self._take_news(cohort, owed)
            if cohort.news:
                self._queue[cohort] = None  # at its end
            return owed

    def _take_news(self, cohort: Cohort, owed: dict[Connection, list[bytes]]) -> None:
        """Add a portion of what is new in the rooms of a cohort. With the lock held."""
        left = PORTION
        for room in list(cohort.news):
            if left <= 0:
                break  # at the next visit these come first
            del cohort.news[room]
            feed = self._feeds.get(room)
            if feed is None or (place := feed.places.get(cohort)) is None:
                continue  # they have left
            since = place.rev
            if batch := feed.take(place, left):
                left -= len(batch)
                self.frames_delivered += (place.rev - since) * len(place.members)
                self.bytes_delivered += len(batch) * len(place.members)
                for connection in place.members:
                    owed.setdefault(connection, []).append(batch)
            if place.rev < feed.newest:
                cohort.news[room] = None
            self._note_gap(room, feed)

    def _note(self, room: int, feed: Feed) -> None:
        """See that the room's turn comes, if it has something to do. With the lock held."""
        for cohort, place in feed.places.items():
            if place.rev < feed.newest:
                cohort.news[room] = None
                self._queue[cohort] = None
        if self._queue:
            self._ring.set()
        self._note_gap(room, feed)

    def _note_gap(self, room: int, feed: Feed) -> None:
        if feed.gap:
            self._gaps[room] = None
            self._gap_ring.set()

    def catch_up(self) -> None:
        """Wait for a room of which frames are missing here, and read some from the database.

        Apart from ``step``, so that nobody waits for the database but those who are in that room.
        """
        self._gap_ring.wait()
        with self._lock:
            if not self._gaps:
                self._gap_ring.clear()
                return
            room, _ = self._gaps.popitem(last=False)
            feed = self._feeds.get(room)
            if feed is None or not feed.gap:
                return
            feed.behind = False  # what is found out from now on may be after what is read
            since, waiting = feed.newest, list(feed.early)
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
            if len(frames) < PAGE:
                feed.drop(waiting)
            feed.behind = feed.behind or len(frames) == PAGE
            self._note(room, feed)
        give_way()  # SQLite is read without waiting for anything
