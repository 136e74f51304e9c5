"""One room as this worker sees it: who is in it here, and the frames that they are owed."""

from __future__ import annotations

from collections import Counter

from .connection import Connection


class Feed:
    """Frames in the order of their revs, from ``head`` on, each to be given to every member once.

    ``head`` is the rev up to which the members have been given everything; ``newest`` the rev up to
    which frames have been taken in. Not locked: the hub's lock guards it.
    """

    __slots__ = ("behind", "fresh", "head", "members", "newest", "online")

    def __init__(self, head: int) -> None:
        self.head = self.newest = head
        self.fresh: list[bytes] = []
        #: Whether the database has revs after ``newest`` that were not offered here.
        self.behind = False
        self.members: set[Connection] = set()
        #: How many sockets each owner has here.
        self.online: Counter[int] = Counter()

    def offer(self, rev: int, frame: bytes) -> None:
        """Take a frame that is the next one; a later one shows that some were missed."""
        if rev == self.newest + 1 and not self.behind:
            self.fresh.append(frame)
            self.newest = rev
        elif rev > self.newest:
            self.behind = True

    def fill(self, frames: list[tuple[int, bytes]]) -> None:
        """Take what the database has after ``newest``: (rev, frame), ascending by rev."""
        for rev, frame in frames:
            if rev > self.newest:
                self.fresh.append(frame)
                self.newest = rev

    def take(self) -> tuple[bytes, list[Connection]]:
        """What is owed, as one bytes object for all to share, and the members to give it to."""
        batch = b"".join(self.fresh)
        self.fresh.clear()
        self.head = self.newest
        return batch, list(self.members)

    def add(self, connection: Connection) -> None:
        self.members.add(connection)
        self.online[connection.owner] += 1

    def remove(self, connection: Connection) -> None:
        self.members.discard(connection)
        self.online[connection.owner] -= 1
        if not self.online[connection.owner]:
            del self.online[connection.owner]
