"""One room as this worker sees it: who is in it here, and the frames that they are owed."""

from __future__ import annotations

from collections import Counter, deque

from .connection import Connection

#: Bytes that are given out at once, about: a quarter of the outbox of a member.
PORTION = 262_144

#: Frames that may wait for a gap to be filled.
EARLY_MAX = 1000


class Feed:
    """Frames in the order of their revs, from ``head`` on, each to be given to every member once.

    ``head`` is the rev up to which the members have been given everything; ``newest`` the rev up to
    which frames have been taken in. Not locked: the hub's lock guards it.
    """

    __slots__ = ("behind", "early", "fresh", "head", "members", "newest", "online")

    def __init__(self, head: int) -> None:
        self.head = self.newest = head
        self.fresh: deque[tuple[int, bytes]] = deque()
        #: Whether the database is known to have more, after ``newest``, than was offered here.
        self.behind = False
        #: Frames by rev that came before their turn: they wait for the gap to be filled.
        self.early: dict[int, bytes] = {}
        self.members: set[Connection] = set()
        #: How many sockets each owner has here.
        self.online: Counter[int] = Counter()

    @property
    def gap(self) -> bool:
        """Whether something between must be read from the database."""
        return self.behind or bool(self.early)

    def offer(self, rev: int, frame: bytes) -> None:
        """Take a frame that is the next one; a later one shows that some were missed."""
        if rev == self.newest + 1:
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
        self.fresh.append((rev, frame))
        self.newest = rev

    def _append_early(self) -> None:
        while frame := self.early.pop(self.newest + 1, None):
            self._append(self.newest + 1, frame)
        if self.early:
            self.early = {rev: frame for rev, frame in self.early.items() if rev > self.newest}

    def take(self) -> tuple[bytes, list[Connection]]:
        """What is owed, as one bytes object for all to share, and the members to give it to.

        Not more than a portion at a time, so that a burst does not overflow the outbox of a member
        who reads; what is over is left for the next pass.
        """
        frames, size = [], 0
        while self.fresh and size < PORTION:
            self.head, frame = self.fresh.popleft()
            frames.append(frame)
            size += len(frame)
        return b"".join(frames), list(self.members)

    def add(self, connection: Connection) -> None:
        self.members.add(connection)
        self.online[connection.owner] += 1

    def remove(self, connection: Connection) -> None:
        self.members.discard(connection)
        self.online[connection.owner] -= 1
        if not self.online[connection.owner]:
            del self.online[connection.owner]
