"""One room as this worker sees it: who is in it here, and the frames that they are owed."""

from __future__ import annotations

from bisect import bisect_right

from .cohort import Cohort, Place
from .connection import Connection

#: Bytes that may wait to be given out, about. What is said beyond that is read from the database
#: when there is room: a room that is said more in than can be given out costs time, not memory.
RING_BYTES = 4_194_304

#: Frames that may wait for a gap to be filled.
EARLY_MAX = 1000


class Feed:
    """Frames in the order of their revs, each to be given to every member once.

    ``newest`` is the rev up to which frames have been taken in; ``frames`` are those that some
    place has not been given yet, and ``revs`` their revs. A message that was changed again before
    it was read has left a hole there. Not locked: the hub's lock guards it.
    """

    __slots__ = (
        "_batch",
        "_batch_revs",
        "_positions",
        "_size",
        "behind",
        "early",
        "frames",
        "newest",
        "places",
        "revs",
    )

    def __init__(self, head: int) -> None:
        self.newest = head
        self.revs: list[int] = []
        self.frames: list[bytes] = []
        self._size = 0  # of the frames, in bytes
        #: Whether the database is known to have more, after ``newest``, than was offered here.
        self.behind = False
        #: Frames by rev that came before their turn: they wait for the gap to be filled.
        self.early: dict[int, bytes] = {}
        #: Where each cohort that has members here stands.
        self.places: dict[Cohort, Place] = {}
        self._positions: dict[int, int] = {}  # how many places are at a rev
        self._batch, self._batch_revs = b"", (0, 0)  # what was given last: after a rev, up to a rev

    @property
    def full(self) -> bool:
        return self._size >= RING_BYTES

    @property
    def gap(self) -> bool:
        """Whether something must be read from the database, and there is room for it."""
        return (self.behind or bool(self.early)) and not self.full

    # Taking in.

    def offer(self, rev: int, frame: bytes) -> None:
        """Take a frame that is the next one; a later one shows that some were missed."""
        if self.full:
            self.behind = self.behind or rev > self.newest
        elif rev == self.newest + 1:
            self._append(rev, frame)
            self._append_early()
        elif len(self.early) >= EARLY_MAX:
            self.behind = True
        elif rev > self.newest:
            self.early.setdefault(rev, frame)

    def fill(self, frames: list[tuple[int, bytes]]) -> None:
        """Take what the database has after ``newest``: (rev, frame), ascending by rev."""
        for rev, frame in frames:
            if rev > self.newest:
                self._append(rev, frame)
        self._append_early()

    def _append(self, rev: int, frame: bytes) -> None:
        self.revs.append(rev)
        self.frames.append(frame)
        self._size += len(frame)
        self.newest = rev

    def _append_early(self) -> None:
        while frame := self.early.pop(self.newest + 1, None):
            self._append(self.newest + 1, frame)
        if self.early:
            self.early = {rev: frame for rev, frame in self.early.items() if rev > self.newest}

    def drop(self, early: list[int]) -> None:
        """Forget these early frames: what comes before them is not in the database, nor are they.

        They are of another one, or were lost when it changed hands.
        """
        for rev in early:
            self.early.pop(rev, None)

    # Giving out.

    def enter(self, cohort: Cohort, connection: Connection) -> int:
        """Add a member; returns the rev after which it will be given every frame."""
        place = self.places.get(cohort)
        if place is None:
            place = self.places[cohort] = Place(self.newest)
            self._stand_at(place.rev)
        place.members.add(connection)
        return place.rev

    def leave(self, cohort: Cohort, connection: Connection) -> None:
        place = self.places[cohort]
        place.members.discard(connection)
        if not place.members:
            del self.places[cohort]
            self._go_from(place.rev)

    def take(self, place: Place, portion: int) -> bytes:
        """Move a place on, past what it is given: one bytes object of about this many bytes."""
        before = place.rev
        batch, place.rev = self.since(before, portion)
        self._stand_at(place.rev)
        self._go_from(before)
        return batch

    def since(self, rev: int, portion: int) -> tuple[bytes, int]:
        """Frames after this rev, about as many bytes, and the rev that they go up to.

        Places that stand at the same rev share the bytes object.
        """
        first = end = bisect_right(self.revs, rev)
        while end < len(self.frames) and portion > 0:
            portion -= len(self.frames[end])
            end += 1
        upto = self.revs[end - 1] if end > first else rev
        if (rev, upto) != self._batch_revs:
            self._batch, self._batch_revs = b"".join(self.frames[first:end]), (rev, upto)
        return self._batch, upto

    def _stand_at(self, rev: int) -> None:
        self._positions[rev] = self._positions.get(rev, 0) + 1

    def _go_from(self, rev: int) -> None:
        """A place is there no more; after the last one, forget what all have been given."""
        if self._positions[rev] > 1:
            self._positions[rev] -= 1
            return
        del self._positions[rev]
        if given := bisect_right(self.revs, min(self._positions, default=self.newest)):
            self._size -= sum(map(len, self.frames[:given]))
            del self.revs[:given], self.frames[:given]
            self._batch, self._batch_revs = b"", (0, 0)
