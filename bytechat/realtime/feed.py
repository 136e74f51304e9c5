"""One room as this worker sees it: who is in it here, and the frames that they are owed."""

from __future__ import annotations

from collections import Counter, deque

from .connection import Connection

#: Bytes that may wait to be given out, about. What is said beyond that is read from the database
#: when there is room: a room that is said more in than can be given out costs time, not memory.
RING_BYTES = 4_194_304

#: Frames that may wait for a gap to be filled.
EARLY_MAX = 1000


class Feed:
    """Frames in the order of their revs, from ``head`` on, each to be given to every member once.

    ``head`` is the rev up to which the members have been given everything; ``newest`` the rev up to
    which frames have been taken in; ``ring`` what is between. Not locked: the hub's lock guards it.
    """

    __slots__ = ("_size", "behind", "early", "head", "members", "newest", "online", "ring")

    def __init__(self, head: int) -> None:
        self.head = self.newest = head
        self.ring: deque[tuple[int, bytes]] = deque()
        self._size = 0  # of the ring, in bytes
        #: Whether the database is known to have more, after ``newest``, than was offered here.
        self.behind = False
        #: Frames by rev that came before their turn: they wait for the gap to be filled.
        self.early: dict[int, bytes] = {}
        self.members: set[Connection] = set()
        #: How many sockets each owner has here.
        self.online: Counter[int] = Counter()

    @property
    def full(self) -> bool:
        return self._size >= RING_BYTES

    @property
    def gap(self) -> bool:
        """Whether something must be read from the database, and there is room for it."""
        return (self.behind or bool(self.early)) and not self.full

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
            self.early[rev] = frame

    def fill(self, frames: list[tuple[int, bytes]]) -> None:
        """Take what the database has after ``newest``: (rev, frame), ascending by rev."""
        for rev, frame in frames:
            if rev > self.newest:
                self._append(rev, frame)
        self._append_early()

    def _append(self, rev: int, frame: bytes) -> None:
        self.ring.append((rev, frame))
        self._size += len(frame)
        self.newest = rev

    def _append_early(self) -> None:
        while frame := self.early.pop(self.newest + 1, None):
            self._append(self.newest + 1, frame)
        if self.early:
            self.early = {rev: frame for rev, frame in self.early.items() if rev > self.newest}

    def take(self, portion: int) -> bytes:
        """What is owed, as one bytes object for all members to share; about this many bytes."""
        frames, size = [], 0
        while self.ring and size < portion:
            self.head, frame = self.ring.popleft()
            frames.append(frame)
            size += len(frame)
        self._size -= size
        return b"".join(frames)

    def add(self, connection: Connection) -> None:
        self.members.add(connection)
        self.online[connection.owner] += 1

    def remove(self, connection: Connection) -> None:
        self.members.discard(connection)
        self.online[connection.owner] -= 1
        if not self.online[connection.owner]:
            del self.online[connection.owner]
